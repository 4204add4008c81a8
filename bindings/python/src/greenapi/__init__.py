"""Deletes instances of a GREEN-API partner account, and is certain about what it did.

    import greenapi

    greenapi.delete_instance("https://api.green-api.com", token, 1101000001)

returns when the instance is gone and raises an `Error` otherwise; `OutcomeUnknown` is the one
that means "it may be gone nevertheless". Use a `Client` for many deletions, an `AsyncClient`
with asyncio, and ``python -m greenapi`` from a shell.
"""

from . import _abi
from ._abi import Effect, Status
from ._async import AsyncClient
from ._client import Client, delete_instance
from ._errors import (
    BadResponse,
    Cancelled,
    CancelledInFlight,
    ConnectFailed,
    ConnectionLost,
    Error,
    Forbidden,
    InternalError,
    InvalidArgument,
    NotFound,
    NotStarted,
    OutcomeUnknown,
    OutOfResources,
    RateLimited,
    Rejected,
    Result,
    ServerError,
    SessionActive,
    SessionUnknown,
    Timeout,
    TLSFailed,
    Unauthorized,
    Unprocessed,
)
from ._version import __version__

__all__ = [
    "AsyncClient",
    "BadResponse",
    "Cancelled",
    "CancelledInFlight",
    "Client",
    "ConnectFailed",
    "ConnectionLost",
    "Effect",
    "Error",
    "Forbidden",
    "InternalError",
    "InvalidArgument",
    "NotFound",
    "NotStarted",
    "OutOfResources",
    "OutcomeUnknown",
    "RateLimited",
    "Rejected",
    "Result",
    "ServerError",
    "SessionActive",
    "SessionUnknown",
    "Status",
    "TLSFailed",
    "Timeout",
    "Unauthorized",
    "Unprocessed",
    "__version__",
    "delete_instance",
    "library_version",
]

library_version = _abi.library_version

# Tracebacks, reprs and pickles show the names that a user writes.
for _name in __all__:
    if not _name.startswith("__"):
        globals()[_name].__module__ = __name__
del _name
