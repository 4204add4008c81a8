"""The client: options in Python's units, and calls that wait."""

import math
import os
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Literal, Optional, Union

from . import _abi
from ._errors import Error, Result, error_class, invalid_argument, result_of
from ._handle import Handle, Owned
from ._queue import Bulk, checked_id, delete_one

SessionPolicy = Literal["ignore", "require_logged_out", "log_out"]

_UINT32_MAX = 2**32 - 1

PATIENCE = 0.005
"""Seconds that drawing ids may take before results are looked for: an iterable that is slow
(a database, a pace of its own) must not hold back what is done already."""


class BaseClient(Handle):
    """The options and the ownership that `Client` and `AsyncClient` share."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        max_retries: int = 3,
        max_in_flight: int = 64,
        requests_per_second: Optional[float] = None,
        session: SessionPolicy = "ignore",
        allow_http: bool = False,
        ca_file: Union[str, "os.PathLike[str]", None] = None,
        proxy: Optional[str] = None,
        user_agent: Optional[str] = None,
    ) -> None:
        """Checks the options and makes the client; nothing is sent yet.

        Args:
            url: ``https://host[:port][/prefix]``. Plain ``http://`` is for loopback hosts only,
                unless ``allow_http`` is set.
            token: The partner token. It stays in the library and is in no message or ``repr``.
            timeout: Seconds for a whole deletion, retries included, from the moment that its
                request is started.
            connect_timeout: Seconds to connect.
            max_retries: Repetitions of a request that failed in a way that may pass; 0 for none.
            max_in_flight: Requests under way at once; further ones wait their turn.
            requests_per_second: The pace of new requests; ``None`` for no limit.
            session: What to do about an instance whose phone is still logged in: ``"ignore"``
                deletes it all the same, ``"require_logged_out"`` refuses (`SessionActive`),
                ``"log_out"`` logs it out first.
            allow_http: Permits plain ``http://`` to any host: the token then travels in clear.
            ca_file: A PEM bundle of certificates to trust instead of the system's.
            proxy: The proxy's URL; ``None`` for the environment's (``HTTPS_PROXY``,
                ``NO_PROXY``), ``""`` for none.
            user_agent: Put before the library's own.

        Raises:
            InvalidArgument: a value is unusable; the message names it and says why.
            OutOfResources: memory, threads or descriptors ran out.
            TypeError: a value has the wrong type.
        """
        try:
            pointer, row = _abi.client_new(
                _text("url", url),
                _text("token", token),
                {
                    "timeout_ms": _milliseconds("timeout", timeout),
                    "connect_timeout_ms": _milliseconds("connect_timeout", connect_timeout),
                    "max_retries": _uint32("max_retries", max_retries),
                    "max_in_flight": _uint32("max_in_flight", max_in_flight),
                    "requests_per_second": _rate("requests_per_second", requests_per_second),
                    "session": _session(session),
                    "flags": _abi.FLAG_ALLOW_HTTP if _flag("allow_http", allow_http) else 0,
                    "ca_file": _path("ca_file", ca_file),
                    "proxy": _optional_text("proxy", proxy),
                    "user_agent": _optional_text("user_agent", user_agent),
                },
            )
        finally:
            # Reporters of errors show the variables of a traceback's frames.
            del token, proxy
        if not pointer:
            result = result_of(row)
            raise error_class(result.status)(result)
        self._owned = Owned(pointer, _abi.client_free)
        # Twice: while one half is under way, the other is there to follow without a pause.
        self._window = 2 * max_in_flight


class Client(BaseClient):
    """A client whose calls wait, for programs without an event loop.

    Use one for many deletions, as a context manager or for the life of the program: it keeps
    its connections. Any number of threads may use it at once, also in a child after ``fork``.
    Ctrl-C ends a call at once and cancels its request.

        with greenapi.Client(url, token, session="log_out") as client:
            client.delete_instance(1101000001)

    Closing does not cancel: calls under way in other threads complete.
    """

    def delete_instance(self, id_instance: int) -> Result:
        """Deletes one instance and waits for the outcome.

        Args:
            id_instance: 1 … 9 999 999 999.

        Returns:
            The result, whose ``ok`` is true: the instance is gone.

        Raises:
            Error: the subclass for what happened; `OutcomeUnknown` where the instance may be
                gone nevertheless.
            KeyboardInterrupt: and whatever else a signal handler raises; the request is
                cancelled, and may have been carried out when it had been sent.
            TypeError: the id is not an integer.
            RuntimeError: the client is closed.
        """
        return delete_one(self._open(), checked_id(id_instance)).raise_for_status()

    def delete_instances(self, ids: Iterable[int]) -> Generator[Result, None, None]:
        """Deletes many instances; iterates over the results as they complete.

        Failed deletions are results too: look at ``ok`` or call ``raise_for_status``. The ids
        may come from any iterable, which is drawn from only as fast as needed: at most twice
        ``max_in_flight`` ids ahead of the results handed out. When it raises, or yields what
        is no integer, the ids before that still get their results, and then the error is
        raised.

        Leaving the loop early, ``close()`` on the iterator and Ctrl-C cancel what is left;
        what had been sent by then may have been carried out.

        Raises:
            TypeError: ``ids`` is not iterable.
            OutOfResources: no descriptor is left to wait with.
            RuntimeError: the client is closed.
        """
        return _results(self._open(), self._window, iter(ids))


def delete_instance(url: str, token: str, id_instance: int) -> Result:
    """Deletes one instance with every option at its default, and waits for the outcome.

    Connections are kept and used again across calls. Callable from any thread, also in a child
    after ``fork``; Ctrl-C ends it at once and cancels the request.

    Args:
        url: ``https://host[:port][/prefix]``; plain ``http://`` for loopback hosts only.
        token: The partner token.
        id_instance: 1 … 9 999 999 999.

    Returns:
        The result, whose ``ok`` is true: the instance is gone.

    Raises:
        Error: the subclass for what happened; `OutcomeUnknown` where the instance may be gone
            nevertheless.
        KeyboardInterrupt: the request is cancelled, and may have been carried out.
        TypeError: an argument has the wrong type.
    """
    try:
        number = checked_id(id_instance)
        try:
            client = Client(url, token)
        except Error as error:
            # The client knows of no instance; the caller asked about one.
            raise type(error)(error.result._replace(id_instance=number)) from None
    finally:
        # Reporters of errors show the variables of a traceback's frames.
        del token
    with client:
        return client.delete_instance(number)


def _results(client: Owned, window: int, ids: Iterator[int]) -> Generator[Result, None, None]:
    bulk = Bulk(client, window)
    drawing = True
    failure: Optional[Exception] = None
    try:
        while True:
            patience = time.monotonic() + PATIENCE
            while drawing and bulk.has_room:
                try:
                    bulk.submit(next(ids))
                except StopIteration:
                    drawing = False
                except Exception as error:
                    failure = error
                    drawing = False
                if time.monotonic() > patience:
                    break
            if bulk.is_ready:
                yield bulk.next_result()
            elif bulk.is_empty and not drawing:
                break
            else:
                if not (drawing and bulk.has_room):
                    bulk.queue.wait()
                bulk.collect()
        if failure is not None:
            raise failure
    finally:
        del failure
        bulk.close()


def _text(name: str, value: str) -> bytes:
    try:
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a str, not {type(value).__name__}")
        # Replaced and compared, because the error of a strict encoder carries the whole text,
        # and that may be the token.
        if "\0" in value or value.encode("utf-8", "replace").decode() != value:
            raise invalid_argument(
                f"{name} contains a NUL character or half of a surrogate pair: remove it"
            )
        return value.encode()
    finally:
        del value


def _optional_text(name: str, value: Optional[str]) -> Optional[bytes]:
    try:
        return None if value is None else _text(name, value)
    finally:
        del value


def _path(name: str, value: Union[str, "os.PathLike[str]", None]) -> Optional[bytes]:
    if isinstance(value, os.PathLike):
        value = value.__fspath__()
    return _optional_text(name, value)


def _flag(name: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return value


def _number(name: str, value: float) -> float:
    # True is a number to Python and a mistake in an option.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _milliseconds(name: str, seconds: float) -> int:
    seconds = _number(name, seconds)
    if not 0 <= seconds * 1000 <= _UINT32_MAX:
        raise invalid_argument(
            f"{name} is {seconds} seconds: it must be between 0.001 and {_UINT32_MAX / 1000}"
        )
    # A wait shorter than the library can express is not the same as none.
    return max(round(seconds * 1000), 1 if seconds else 0)


def _uint32(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 0 <= value <= _UINT32_MAX:
        raise invalid_argument(f"{name} is {value}: it must be between 0 and {_UINT32_MAX}")
    return value


def _rate(name: str, value: Optional[float]) -> float:
    return 0.0 if value is None else _number(name, value)


def _session(value: str) -> int:
    policies = {policy.name.lower(): policy for policy in _abi.Session}
    if not isinstance(value, str):
        raise TypeError(f"session must be a str, not {type(value).__name__}")
    if value not in policies:
        raise invalid_argument(f"session must be one of {', '.join(policies)}, not {value!r}")
    return policies[value]
