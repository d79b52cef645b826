"""The tree of errors; it does not log, retry or translate foreign exceptions.

::

    IsthmusError
    ├── ModelError              an ONNX file that cannot be read or is not supported
    ├── CutError                tensors that do not cut a network in two
    │   └── GraphMismatchError       a cut of another file than the one that is stored
    ├── RepositoryError         a model repository that does not have what was asked for
    ├── SiteModelError          a site model that is missing, damaged or of another schema
    ├── StoreError              a store of measurements that is locked, damaged or cannot be written
    ├── BundleError             a bundle that is missing, truncated, changed or of another schema
    ├── ImageError              bytes that are no usable image
    ├── CodecError              a payload that cannot be encoded or decoded
    ├── ProtocolError           a message that is not Open Inference Protocol v2
    │   ├── BodyTooLargeError        one that is larger than the server takes
    │   └── BodyTooSlowError         one that does not come
    ├── ConditionsError         conditions that no link, server or device can be in (NaN, zero rate)
    ├── NoPlanError             no plan in the table satisfies the rules
    ├── AddressError            an address on which a server cannot listen
    ├── BusyError               a server that takes no more work now: its queue is full, or it loads
    ├── LabError                a part of the lab itself failed, the link shaper for example
    └── RemoteError             the server did not answer; leads to the fallback
        ├── ServerUnreachableError   no connection, or it broke
        ├── RemoteTimeoutError       no answer in time
        ├── ServerRefusedError       an answer with a status of 4xx or 5xx
        └── BadReplyError            an answer that could not be understood

Only ``RemoteError`` and its children, and a ``CodecError`` while encoding what should be sent, lead
to the fallback: they say that the *server*, the *link* or what crosses it failed, so a local plan
may still answer. A missed deadline is not an error.
"""

from __future__ import annotations

__all__ = [
    "AddressError",
    "BadReplyError",
    "BodyTooLargeError",
    "BodyTooSlowError",
    "BundleError",
    "BusyError",
    "CodecError",
    "ConditionsError",
    "CutError",
    "GraphMismatchError",
    "ImageError",
    "IsthmusError",
    "LabError",
    "ModelError",
    "NoPlanError",
    "ProtocolError",
    "RemoteError",
    "RemoteTimeoutError",
    "RepositoryError",
    "ServerRefusedError",
    "ServerUnreachableError",
    "SiteModelError",
    "StoreError",
]


class IsthmusError(Exception):
    """Anything that this package raises on purpose."""


class ModelError(IsthmusError):
    """An ONNX file cannot be read, or uses something that is not supported."""


class CutError(IsthmusError):
    """The named tensors do not cut the network in two."""


class GraphMismatchError(CutError):
    """The cut is of another ONNX file than the one that is stored under the name."""


class RepositoryError(IsthmusError):
    """The model repository does not hold what was asked for."""


class BundleError(IsthmusError):
    """The bundle is missing, truncated, changed since it was built, or of another schema."""


class SiteModelError(IsthmusError):
    """A file holds no site model of this version, or cannot be read or written."""


class StoreError(IsthmusError):
    """The store of measurements is locked, damaged, of another version or cannot be written."""


class ImageError(IsthmusError):
    """The bytes are no image that the input pipeline can use."""


class CodecError(IsthmusError):
    """A payload cannot be encoded, or its bytes do not decode to what they claim to be."""


class ProtocolError(IsthmusError):
    """A message does not follow the Open Inference Protocol v2."""


class BodyTooLargeError(ProtocolError):
    """A message is larger than the server takes."""


class BodyTooSlowError(ProtocolError):
    """A message does not come, or so slowly that the server no longer waits for it."""


class ConditionsError(IsthmusError):
    """Conditions are impossible: a rate that is zero, negative or not a number, for example."""


class NoPlanError(IsthmusError):
    """No plan in the table satisfies the rules."""


class LabError(IsthmusError):
    """A part of the lab itself failed, so that nothing was emulated or measured."""


class AddressError(IsthmusError):
    """A server cannot listen on the address that it was given."""


class BusyError(IsthmusError):
    """A server takes no more work at this moment: its queue is full, or it is still loading."""


class RemoteError(IsthmusError):
    """The server did not answer this request; a local plan may still do so."""


class ServerUnreachableError(RemoteError):
    """No connection could be made, or it broke before the reply was complete."""


class RemoteTimeoutError(RemoteError):
    """The reply did not come in time."""


class ServerRefusedError(RemoteError):
    """The server answered with an error.

    Attributes:
        status: HTTP status, 400 to 599.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"server answered {status}: {message}")
        self.status = status


class BadReplyError(RemoteError):
    """The server's reply could not be understood."""
