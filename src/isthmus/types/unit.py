"""Names under which a server answers for a network: whole, by photograph, or behind a cut.

Both sides form them here. What answers under a name is the server's business.
"""

from __future__ import annotations

__all__ = ["IMAGE_INPUT", "image_name", "tail_name"]

IMAGE_INPUT = "image"
"""Name of the one input of a network's photograph door: a file, as ``BYTES [1]``."""


def image_name(model: str) -> str:
    """Return the name under which a server takes photographs for ``model``, as files.

    Examples:
        >>> image_name("mobilenet-v2")
        'mobilenet-v2.image'
    """
    return f"{model}.image"


def tail_name(model: str, cut_id: str) -> str:
    """Return the name under which a server offers the tail of ``model`` behind a cut.

    Examples:
        >>> tail_name("mobilenet-v2", "0123456789ab")
        'mobilenet-v2.tail-0123456789ab'
    """
    return f"{model}.tail-{cut_id}"
