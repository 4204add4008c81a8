"""What a deletion reports: a `Result`, or an `Error` that carries one."""

from __future__ import annotations

import sys

from . import _abi
from ._abi import Effect, Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple
else:
    from ._records import NamedTuple

_effects: dict[int, Effect] = {}
"""The effects that the library has given so far; they never change."""


class Result(NamedTuple):
    """What became of one deletion. Immutable; may be pickled, compared and kept."""

    id_instance: int
    """The instance; 0 when the result is not about one (an unusable option, say)."""
    status: Status
    """What happened."""
    code: int
    """The API's own ``code`` when its answer has one, else the HTTP status, else 0."""
    http_status: int
    """The HTTP status of the answer that determined the status. 0: there was no answer, or the
    status follows from an answer without an error to a question of the session policy (the list, a
    state)."""
    attempts: int
    """Deletion requests that may have been sent, retries included; 0 when none was."""
    message: str
    """One or two sentences: what happened and what to do. Never contains the token."""

    @property
    def effect(self) -> Effect:
        """Whether the instance is gone, was not deleted by this call, or may be gone."""
        status = self.status
        try:
            return _effects[status]
        except KeyError:
            return _effects.setdefault(int(status), _abi.status_effect(status))

    @property
    def ok(self) -> bool:
        """Whether the instance is gone."""
        return self.effect is Effect.DELETED

    def as_dict(self) -> dict[str, Any]:
        """A dict of the fields and ``effect``, with statuses and effects by their names.

        Only what JSON has, so ``json.dumps`` takes it.
        """
        return {
            **self._asdict(),
            "status": self.status.name,
            "effect": self.effect.name.lower(),
        }

    def raise_for_status(self) -> Result:
        """Returns this result when the instance is gone.

        Raises:
            Error: the subclass for the status, otherwise.
        """
        if self.effect is Effect.DELETED:
            return self
        raise error_class(self.status)(self)


class Error(Exception):
    """The base of every error of this package: the instance is not known to be gone.

    Its subclass `OutcomeUnknown` means that the instance may be gone nevertheless. Errors may be
    pickled, so they cross ``multiprocessing`` and Celery with all their attributes.
    """

    def __init__(self, result: Result) -> None:
        # Celery's JSON backend rebuilds an error from its arguments, among which JSON has turned a
        # tuple into a list and an enum into a number.
        rebuilt = Result._make(result)
        self.result: Result = rebuilt._replace(status=Status(rebuilt.status))
        super().__init__(self.result)

    def __str__(self) -> str:
        return self.result.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Notes and other attributes that a program has attached.
        more = {name: value for name, value in vars(self).items() if name != "result"}
        return type(self), (self.result,), more or None

    @property
    def id_instance(self) -> int:
        """The instance; 0 when the error is not about one."""
        return self.result.id_instance

    @property
    def status(self) -> Status:
        """What happened."""
        return self.result.status

    @property
    def effect(self) -> Effect:
        """`Effect.NOT_DELETED` or `Effect.UNKNOWN`."""
        return self.result.effect

    @property
    def code(self) -> int:
        """The API's own ``code`` when its answer has one, else the HTTP status, else 0."""
        return self.result.code

    @property
    def http_status(self) -> int:
        """The HTTP status of the answer that determined the status, as in `Result.http_status`."""
        return self.result.http_status

    @property
    def attempts(self) -> int:
        """Deletion requests that may have been sent; 0 when none was."""
        return self.result.attempts

    @property
    def message(self) -> str:
        """What happened and what to do. Never contains the token."""
        return self.result.message


class NotFound(Error):
    """The API says that there is no such instance: it never existed, or was deleted before."""


class Unauthorized(Error):
    """The API refused the partner token."""


class Forbidden(Error):
    """The API says that the token may not do this (HTTP 403)."""


class RateLimited(Error):
    """The API answered 429, too many requests, until the retries were used up."""


class Rejected(Error):
    """The API, or a server in front of it, refused in another way; nothing was deleted."""


class SessionActive(Error):
    """The ``session`` policy forbade the deletion: the instance is, or may be, still logged in."""


class SessionUnknown(Error):
    """The ``session`` policy could not be checked, so no deletion was sent."""


class InvalidArgument(Error, ValueError):
    """A value was refused before anything was sent; the message names it."""


class ConnectFailed(Error, ConnectionError):
    """No connection was made (DNS, refused, unreachable, timeout): no request was sent, or each
    one that was sent was refused unprocessed."""


class TLSFailed(Error):
    """The certificate or the handshake failed: no request was sent, or each one that was sent was
    refused unprocessed."""


class Cancelled(Error):
    """Cancelled before the request was sent."""


class OutOfResources(Error):
    """Memory, threads, descriptors or disk space ran out before the request was sent."""


class Unprocessed(Error):
    """The server said that it did not process the request, and the retries are used up."""


class NotStarted(Error):
    """The call's turn did not come within its timeout; nothing was sent."""


class OutcomeUnknown(Error):
    """The instance may or may not have been deleted.

    Calling again with the same id is safe, and its result shows which: `NotFound` then means that
    the instance is gone.
    """


class Timeout(OutcomeUnknown, TimeoutError):
    """No answer came in time, after the request may have been sent."""


class ConnectionLost(OutcomeUnknown, ConnectionError):
    """The connection broke after the request may have been sent; the retries are used up."""


class ServerError(OutcomeUnknown):
    """The server answered 5xx or 499 until the retries were used up."""


class BadResponse(OutcomeUnknown):
    """A success status whose body is not an answer of this API."""


class CancelledInFlight(OutcomeUnknown):
    """Cancelled after the request may have been sent."""


class InternalError(OutcomeUnknown):
    """A defect in the library itself: please report it."""


_CLASSES: dict[Status, type[Error]] = {
    Status.NOT_FOUND: NotFound,
    Status.UNAUTHORIZED: Unauthorized,
    Status.FORBIDDEN: Forbidden,
    Status.RATE_LIMITED: RateLimited,
    Status.REJECTED: Rejected,
    Status.SESSION_ACTIVE: SessionActive,
    Status.SESSION_UNKNOWN: SessionUnknown,
    Status.INVALID_ARGUMENT: InvalidArgument,
    Status.CONNECT_FAILED: ConnectFailed,
    Status.TLS_FAILED: TLSFailed,
    Status.CANCELLED: Cancelled,
    Status.OUT_OF_RESOURCES: OutOfResources,
    Status.UNPROCESSED: Unprocessed,
    Status.NOT_STARTED: NotStarted,
    Status.TIMEOUT: Timeout,
    Status.CONNECTION_LOST: ConnectionLost,
    Status.SERVER_ERROR: ServerError,
    Status.BAD_RESPONSE: BadResponse,
    Status.CANCELLED_IN_FLIGHT: CancelledInFlight,
    Status.INTERNAL: InternalError,
}


def error_class(status: Status) -> type[Error]:
    """The class for a status; by the status's effect where the status has none of its own."""
    known = _CLASSES.get(status)
    if known is not None:
        return known
    return OutcomeUnknown if _abi.status_effect(status) is Effect.UNKNOWN else Error


def invalid_argument(message: str, id_instance: int = 0) -> InvalidArgument:
    """The error for a value that C's types cannot hold."""
    return InvalidArgument(Result(id_instance, Status.INVALID_ARGUMENT, 0, 0, 0, message))


def refused(id_instance: int, status: int) -> Result:
    """A result for a call that never reached the library, or for which it gives a status only."""
    return Result(id_instance, Status(status), 0, 0, 0, _abi.status_message(status))


_statuses: dict[int, Status] = {int(status): status for status in Status}


def result_of(row: _abi.Row, *, refusal: bool = False) -> Result:
    """The library's result in Python's types. A ``refusal`` of an option begins with its name."""
    _, id_instance, number, code, http_status, attempts, message = row
    # A dict is several times faster than calling the enum.
    status = _statuses.get(number)
    if status is None:
        status = Status(number)
    text = message[: message.index(0)].decode()
    if refusal:
        text = _in_python(text)
    result = Result(id_instance, status, code, http_status, attempts, text)
    if "logging" in sys.modules:
        _log(result)
    return result


def _in_python(message: str) -> str:
    """The refusal of an option with Python's names of the options in place of C's.

    By two rules: ``GREENAPI_FLAG_NAME`` is the keyword ``name=True``, and C's ``name_ms`` is
    ``name`` in seconds. All other options have the same name.
    """
    if "GREENAPI_FLAG_" not in message and "_ms" not in message:
        return message
    import re

    message = re.sub(
        r"\bGREENAPI_FLAG_([A-Z_]+)", lambda found: f"{found[1].lower()}=True", message
    )
    return re.sub(r"\b([a-z_]+)_ms\b", r"\1", message)


# --- the result of a call that ends by an exception ---

_FATE = "greenapi_result"


def fate(error: BaseException) -> Result | None:
    """The result of the deletion that an exception ended.

    For every exception that ends a single call: an `Error`, and also ``KeyboardInterrupt``,
    ``asyncio.CancelledError``, ``trio.Cancelled`` or what a signal handler raised, which cancel
    the request; and for exceptions caused by one of these, as the ``TimeoutError`` of
    ``asyncio.timeout`` is.

        except KeyboardInterrupt as interrupt:
            print(greenapi.fate(interrupt))

    Args:
        error: The exception; its causes and contexts are looked at too.

    Returns:
        The result: `Status.CANCELLED` when the request had not been sent,
        `Status.CANCELLED_IN_FLIGHT` when it may have been carried out, ``OK`` when the answer
        came at the same moment. ``None`` when no deletion ended by this exception.
    """
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if isinstance(one, Error):
            return one.result
        found = vars(one).get(_FATE)
        if isinstance(found, Result):
            return found
        seen.add(id(one))
        one = one.__cause__ or one.__context__
    return None


def is_of(error: BaseException, result: Result) -> bool:
    """Whether an error is the one that `Result.raise_for_status` raises."""
    return isinstance(error, Error) and error.result == result


def remember(error: BaseException, result: Result) -> None:
    """Attaches to an exception the result of the deletion that it ended."""
    # Some exception classes refuse attributes; all have this dictionary.
    vars(error)[_FATE] = result
    if hasattr(error, "add_note"):
        error.add_note(f"greenapi: {result.id_instance} {result.status.name}: {result.message}")


# --- logging ---

_logger: Any = None


def _log(result: Result) -> None:
    # Only a program that has imported logging can have asked for the lines.
    global _logger
    if _logger is None:
        get = getattr(sys.modules["logging"], "getLogger", None)
        if get is None:
            return
        _logger = get("greenapi")
    if _logger.isEnabledFor(10):
        # The results of a list and of a client are about no instance.
        about = f"{result.id_instance} " if result.id_instance else ""
        _logger.debug("%s%s: %s", about, result.status.name, result.message)
