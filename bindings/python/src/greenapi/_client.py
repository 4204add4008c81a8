"""The client: options in Python's units, and calls that wait."""

from __future__ import annotations

import os
from _thread import get_ident
from math import inf

from . import _abi
from ._errors import Error, error_class, invalid_argument, remember, result_of
from ._handle import Handle, Owned, Single
from ._queue import Bulk, delete_one, integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Any, SupportsIndex, TypeVar, Union

    from ._errors import Result
    from ._instances import Instances
    from ._types import SessionPolicy

    _Self = TypeVar("_Self")
    Number = Union[float, SupportsIndex]

_UINT32_MAX = 2**32 - 1


class BaseClient(Handle):
    """The options and the ownership that `Client` and `AsyncClient` share."""

    # Empty until the library has accepted the URL: it may have a login in it, which error
    # reporters would show.
    _url = ""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: Number = 30.0,
        connect_timeout: Number = 10.0,
        max_retries: SupportsIndex = 3,
        max_in_flight: SupportsIndex = 64,
        requests_per_second: Number | None = None,
        session: SessionPolicy = "ignore",
        allow_http: bool = False,
        ca_file: str | os.PathLike[str] | None = None,
        proxy: str | None = None,
        user_agent: str | None = None,
        ca_pem: str | None = None,
        instance_url: str | None = None,
        journal: str | os.PathLike[str] | None = None,
    ) -> None:
        """Checks the options and makes the client; nothing is sent yet.

        Args:
            url: ``https://host[:port][/prefix]``. Plain ``http://`` is for loopback hosts only,
                unless ``allow_http`` is set.
            token: The partner token. It stays in the library and is in no message or ``repr``.
            timeout: Seconds for a whole deletion, retries included: in a blocking call from its
                beginning (`NotStarted` when its turn does not come in time), in bulk and in async
                calls from the moment that the request is started. 0.001 … 4294967.295.
            connect_timeout: Seconds to connect.
            max_retries: Repetitions of a request after a temporary failure; 0 for none.
            max_in_flight: Requests under way at once; further ones wait their turn.
            requests_per_second: The pace of new requests; ``None`` for no limit.
            session: What to do about an instance whose phone is still logged in: ``"ignore"``
                deletes it all the same, ``"require_logged_out"`` refuses (`SessionActive`),
                ``"log_out"`` logs it out first, ``"try_log_out"`` does so where possible and
                deletes in any case once the API (not a proxy or a firewall) has answered.
            allow_http: Permits plain ``http://`` to any host: the token then travels in clear.
            ca_file: A PEM bundle of certificates to trust instead of the system's.
            proxy: The proxy's URL; ``None`` for the environment's (``HTTPS_PROXY``,
                ``NO_PROXY``), ``""`` for none.
            user_agent: Put before the library's own.
            ca_pem: Certificates to trust instead of the system's, as PEM text; not beside
                ``ca_file``.
            instance_url: Where an instance's own methods (its state, its logout) are asked;
                ``{pool}`` in it stands for the first four digits of the id. ``None`` for ``url``.
            journal: The path of a file in which every deletion is noted durably before it is
                sent, so that a later run knows what this run did; ``None`` for none. Use another
                file for each account.

        Raises:
            InvalidArgument: a value is unusable; the message names it and says why.
            OutOfResources: memory, threads or descriptors ran out.
            TypeError: a value has the wrong type.
        """
        try:
            seconds = _seconds("timeout", timeout)
            rate = 0.0
            if requests_per_second is not None:
                rate = _number("requests_per_second", requests_per_second)
            in_flight = _uint32("max_in_flight", max_in_flight)
            owned = Owned(_abi.client_free)
            row = _abi.client_new(
                owned.pointer,
                _text("url", url),
                _text("token", token),
                {
                    "timeout_ms": _milliseconds(seconds),
                    "connect_timeout_ms": _milliseconds(
                        _seconds("connect_timeout", connect_timeout)
                    ),
                    "max_retries": _uint32("max_retries", max_retries),
                    "max_in_flight": in_flight,
                    "requests_per_second": rate,
                    "session": _session(session),
                    "flags": _abi.FLAG_ALLOW_HTTP if bool_option("allow_http", allow_http) else 0,
                    "ca_file": _path("ca_file", ca_file),
                    "proxy": _optional_text("proxy", proxy),
                    "user_agent": _optional_text("user_agent", user_agent),
                    "ca_pem": _optional_text("ca_pem", ca_pem),
                    "instance_url": _optional_text("instance_url", instance_url),
                    "journal": _path("journal", journal),
                },
            )
        finally:
            # Error reporters show the local variables of a traceback's frames.
            del token, proxy
        if not owned.pointer:
            result = result_of(row, refusal=True)
            raise error_class(result.status)(result)
        self._owned = owned
        self._url = url
        self._timeout = seconds
        self._max_in_flight = in_flight
        self._interval = 1 / rate if rate else 0.0

    # A TypeError about a keyword names the function by this, and nobody calls BaseClient.
    __init__.__qualname__ = "Client.__init__"

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        return " ".join(filter(None, (f"<{name}", self._url, f"{state}>")))

    def _bulk(self, ids: Iterator[Any], sized: bool) -> Bulk:
        return Bulk(self._open(), self._max_in_flight, self._interval, ids, sized)


class Client(BaseClient):
    """A client whose calls wait, for programs without an event loop.

    Use one client for many deletions, as a context manager or for the life of the program: it
    keeps its connections. Any number of threads may use it at once, also in a child after
    ``fork``. Ctrl-C ends a call at once and cancels its request.

        with greenapi.Client(url, token, session="log_out") as client:
            client.delete_instance(1101000001)

    Closing does not cancel: calls under way in other threads complete.
    """

    def __enter__(self: _Self) -> _Self:
        self._open()  # type: ignore[attr-defined]
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def delete_instance(self, id_instance: SupportsIndex) -> Result:
        """Deletes one instance and waits for the outcome.

        Args:
            id_instance: 1 … 9 999 999 999.

        Returns:
            The result, whose ``ok`` is true: the instance is gone.

        Raises:
            Error: the subclass for what happened; `OutcomeUnknown` where the instance may be
                gone nevertheless.
            KeyboardInterrupt: and whatever else a signal handler raises; the request is
                cancelled, and `fate` gives the result from the exception.
            TypeError: the id is not an integer.
            RuntimeError: the client is closed.
        """
        number = integer("id_instance", id_instance)
        return delete_one(self._open(), number, self._timeout)

    def delete_instances(self, ids: Iterable[SupportsIndex]) -> Deletions:
        """Deletes many instances; iterates over the results as they complete.

        Failed deletions are results too: look at ``ok`` or call ``raise_for_status``. The ids
        may come from any iterable, which is drawn from only as fast as needed: at most
        ``max_in_flight`` ids ahead of the results handed out. When the iterable raises, or yields
        anything but an integer, the ids before that still get their results, and then the error
        is raised.

        As a context manager it cancels the rest of the run when the block is left; the same
        object then still gives the results of the rest:

            with client.delete_instances(ids) as results:
                for result in results:
                    ...
            for result in results:  # after a break: the results of the rest
                ...

        Raises:
            TypeError: ``ids`` is not iterable.
            OutOfResources: no descriptor is left to wait with.
            RuntimeError: the client is closed.
        """
        return Deletions(self._bulk(iter(ids), hasattr(ids, "__len__")))

    def instances(self, states: bool = False) -> Instances:
        """Lists the account's instances, the deleted ones of the last three months included.

        Instances come in the API's order while the list is still being read: memory does not
        grow with the list, and a slow loop holds back the reading.

            expired = [one for one in client.instances() if one.is_expired and not one.is_deleted]

        Args:
            states: Whether to ask each living instance for its state, under the client's
                ``max_in_flight`` and ``requests_per_second``.

        Returns:
            An iterator of `Instance`, which raises an `Error` when the list breaks off. The
            client's ``timeout`` applies to the list, and again to each state.

        Raises:
            OutOfResources: no descriptor or memory is left.
            RuntimeError: the client is closed.
        """
        from ._instances import Instances, Listing

        return Instances(Listing(self._open(), bool_option("states", states)))


class Deletions(Single):
    """The results of `Client.delete_instances`: an iterator and a context manager.

    Deletions start only as the caller iterates. Ctrl-C, or any other exception while the iterator
    waits, cancels the rest of the run, as leaving the ``with`` block does; iterating on then gives
    the results of the rest. Dropping the iterator and `close` cancel too, and lose the results not
    yet handed out. For one thread at a time, but `cancel` may be called from any.
    """

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk
        self._thread: int | None = None

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> Result:
        # Without a lock, because an interrupt at the wrong moment would leave a lock held.
        thread = get_ident()
        if self._thread not in (None, thread):
            raise ValueError("another thread is drawing from these deletions")
        self._thread = thread
        bulk = self._bulk
        bulk.handed_out = None
        try:
            try:
                while True:
                    if bulk.is_ready:
                        return bulk.next_result()
                    pause = bulk.draw()
                    if bulk.is_over:
                        break
                    if not bulk.is_ready:
                        bulk.wait(pause)
                        bulk.collect()
            finally:
                self._thread = None
        except BaseException:
            bulk.interrupt()
            raise
        bulk.close()
        bulk.raise_failure()
        raise StopIteration

    def cancel(self) -> None:
        """Cancels the rest of the run. Iterating on gives the results of the rest, and ends soon.

        A deletion that had not been sent ends in `Status.CANCELLED`, one that may have been carried
        out in `Status.CANCELLED_IN_FLIGHT`. An iterable with a length (a list) is read to its end,
        so that each of its ids has a result; one without (a generator) is not drawn from any more.
        Callable from any thread and from signal handlers; has no effect on a run that is cancelled
        or over.
        """
        self._bulk.cancel()

    def close(self) -> None:
        """Cancels the rest and ends the iterator: results not yet handed out are lost."""
        self._bulk.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bulk.settle()


def delete_instance(url: str, token: str, id_instance: SupportsIndex) -> Result:
    """Deletes one instance with every option at its default, and waits for the outcome.

    Connections are kept and reused across calls. Callable from any thread, also in a child after
    ``fork``; Ctrl-C ends the call at once and cancels the request.

    Args:
        url: ``https://host[:port][/prefix]``; plain ``http://`` for loopback hosts only.
        token: The partner token.
        id_instance: 1 … 9 999 999 999.

    Returns:
        The result, whose ``ok`` is true: the instance is gone.

    Raises:
        Error: the subclass for what happened; `OutcomeUnknown` where the instance may be gone
            nevertheless.
        KeyboardInterrupt: the request is cancelled; `fate` gives the result from the exception.
        TypeError: an argument has the wrong type.
    """
    try:
        number = integer("id_instance", id_instance)
        try:
            client = Client(url, token)
        except Error as error:
            # The error of a client names no instance; this caller asked about one.
            raise type(error)(error.result._replace(id_instance=number)) from None
    finally:
        # Error reporters show the local variables of a traceback's frames.
        del token
    result = None
    try:
        with client:
            result = client.delete_instance(number)
    except BaseException as error:
        if result is not None:
            # A signal handler's, from the closing.
            remember(error, result)
        raise
    return result


def _text(name: str, value: str) -> bytes:
    try:
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a str, not {type(value).__name__}")
        # Not by a strict encoder: its error carries the whole text, which may be the token.
        if "\0" in value or value.encode("utf-8", "replace").decode() != value:
            raise invalid_argument(
                f"{name} contains a NUL character or half of a surrogate pair: remove it"
            )
        return value.encode()
    finally:
        del value


def _optional_text(name: str, value: str | None) -> bytes | None:
    try:
        return None if value is None else _text(name, value)
    finally:
        del value


def _path(name: str, value: str | os.PathLike[str] | None) -> bytes | None:
    if isinstance(value, os.PathLike):
        value = value.__fspath__()
    return _optional_text(name, value)


def bool_option(name: str, value: bool) -> bool:
    """Checks a flag: a number or a text in its place is a mistake."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return value


def _number(name: str, value: Number) -> float:
    # True is a number to Python and a mistake in an option. Text has no __float__.
    if isinstance(value, bool) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        return inf


def _seconds(name: str, value: Number) -> float:
    seconds = _number(name, value)
    if not 1 <= seconds * 1000 <= _UINT32_MAX:
        raise invalid_argument(
            f"{name} is {seconds} seconds: it must be between 0.001 and {_UINT32_MAX / 1000}"
        )
    return seconds


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _uint32(name: str, value: SupportsIndex) -> int:
    number = integer(name, value)
    if not 0 <= number <= _UINT32_MAX:
        raise invalid_argument(f"{name} is {number}: it must be between 0 and {_UINT32_MAX}")
    return number


def _session(value: str) -> int:
    policies = {policy.name.lower(): policy for policy in _abi.Session}
    if not isinstance(value, str):
        raise TypeError(f"session must be a str, not {type(value).__name__}")
    if value not in policies:
        raise invalid_argument(f"session must be one of {', '.join(policies)}, not {value!r}")
    return policies[value]
