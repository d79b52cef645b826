"""Datatypes of the Open Inference Protocol and the NumPy dtypes that they are; nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

__all__ = ["DATATYPES", "datatype_of", "dtype_of"]

DATATYPES: Mapping[str, str] = MappingProxyType(
    {
        "BOOL": "bool",
        "UINT8": "uint8",
        "UINT16": "uint16",
        "UINT32": "uint32",
        "UINT64": "uint64",
        "INT8": "int8",
        "INT16": "int16",
        "INT32": "int32",
        "INT64": "int64",
        "FP16": "float16",
        "FP32": "float32",
        "FP64": "float64",
    }
)
"""Name of the NumPy dtype of each datatype; ``BYTES`` has none."""

_DTYPES = {datatype: np.dtype(name).newbyteorder("<") for datatype, name in DATATYPES.items()}
_OF_NAME = {name: datatype for datatype, name in DATATYPES.items()}


def dtype_of(datatype: str) -> np.dtype:
    """Return the little-endian dtype of a datatype in ``DATATYPES``."""
    return _DTYPES[datatype]


def datatype_of(dtype: np.dtype | str) -> str | None:
    """Return the datatype of a dtype or of NumPy's name of it, ``None`` if it has none.

    Examples:
        >>> datatype_of("float32"), datatype_of("complex64")
        ('FP32', None)
    """
    return _OF_NAME.get(np.dtype(dtype).name)
