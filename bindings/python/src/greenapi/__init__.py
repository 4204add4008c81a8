"""Deletes instances of a GREEN-API partner account, and reports reliably what became of each one.

    import greenapi

    greenapi.delete_instance("https://api.green-api.com", token, 1101000001)

returns when the instance is gone and raises an `Error` otherwise. Of the errors only
`OutcomeUnknown` means that the instance may be gone nevertheless. Use a `Client` for many
deletions, an `AsyncClient` with asyncio or trio, and the command ``greenapi`` from a shell.
"""

from __future__ import annotations

from ._abi import Effect, State, Status, library_version
from ._client import Client, Deletions, delete_instance
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
    fate,
)
from ._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._async import AsyncClient, AsyncDeletions, AsyncInstances
    from ._instances import Instance, Instances
    from ._types import SessionPolicy

__all__ = [
    "AsyncClient",
    "AsyncDeletions",
    "AsyncInstances",
    "BadResponse",
    "Cancelled",
    "CancelledInFlight",
    "Client",
    "ConnectFailed",
    "ConnectionLost",
    "Deletions",
    "Effect",
    "Error",
    "Forbidden",
    "Instance",
    "Instances",
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
    "SessionPolicy",
    "SessionUnknown",
    "State",
    "Status",
    "TLSFailed",
    "Timeout",
    "Unauthorized",
    "Unprocessed",
    "__version__",
    "delete_instance",
    "fate",
    "library_version",
]

# Names that most programs never use. Their modules are loaded at first use, to keep the import
# fast.
_LATER = {
    "AsyncClient": "_async",
    "AsyncDeletions": "_async",
    "AsyncInstances": "_async",
    "Instance": "_instances",
    "Instances": "_instances",
    "SessionPolicy": "_types",
}

# Tracebacks, reprs and pickles show the names that a user writes.
for _name in {*__all__} - {*_LATER, "__version__"}:
    globals()[_name].__module__ = __name__

if not TYPE_CHECKING:

    def __getattr__(name):
        module = _LATER.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f".{module}", __name__), name)
        if isinstance(value, type):
            value.__module__ = __name__
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *_LATER})
