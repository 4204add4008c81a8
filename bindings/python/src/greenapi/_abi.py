"""``include/greenapi.h`` in ctypes, and the search for the shared library.

The only module that uses ctypes. The upper half mirrors the declarations of the header in the
header's order, and ``tests/test_abi.py`` compares each with the header itself. The lower half
wraps the functions, so that the rest of the package passes and gets plain integers, bytes and
tuples.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from ctypes import (
    POINTER,
    Structure,
    c_bool,
    c_char,
    c_char_p,
    c_double,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from enum import IntEnum
from itertools import chain

from ._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator
    from typing import Any, Callable, ClassVar

# --- enums ---


class Named(IntEnum):
    """An integer that prints as its name, which ``IntEnum`` stopped doing in Python 3.11."""

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        if spec and spec[-1] in "bcdeEfFgGnoxX%":
            return int.__format__(self, spec)
        return format(self.name, spec)


class Status(Named):
    """What happened to a deletion. The values are stable for ever.

    The tens show the effect: 0–9 the instance is gone, 10–29 this call deleted nothing, 30–49 the
    instance may or may not have been deleted. A number that this version has no name for is still
    a ``Status``, named ``STATUS_<number>``.
    """

    OK = 0
    GONE = 1
    NOT_FOUND = 10
    UNAUTHORIZED = 11
    FORBIDDEN = 12
    RATE_LIMITED = 13
    REJECTED = 14
    SESSION_ACTIVE = 15
    SESSION_UNKNOWN = 16
    INVALID_ARGUMENT = 20
    CONNECT_FAILED = 21
    TLS_FAILED = 22
    CANCELLED = 23
    OUT_OF_RESOURCES = 24
    UNPROCESSED = 25
    NOT_STARTED = 26
    TIMEOUT = 30
    CONNECTION_LOST = 31
    SERVER_ERROR = 32
    BAD_RESPONSE = 33
    CANCELLED_IN_FLIGHT = 34
    INTERNAL = 40

    @classmethod
    def _missing_(cls, value: object) -> Status | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"STATUS_{value}"
        member._value_ = value
        return member

    def __reduce_ex__(self, _protocol: object) -> tuple[Any, ...]:
        # By the number: some versions of Python (3.11.2, say) pickle and copy an enum by its name,
        # and a number of a newer library has no name here.
        return type(self), (int(self),)


class Effect(Named):
    """What a status says about the instance."""

    DELETED = 0
    """The instance is gone."""
    NOT_DELETED = 1
    """This call deleted nothing."""
    UNKNOWN = 2
    """The instance may or may not have been deleted; calling again with the same id is safe, and
    its result shows which."""


class Session(Named):
    """The values of ``greenapi_options.session``."""

    IGNORE = 0
    REQUIRE_LOGGED_OUT = 1
    LOG_OUT = 2
    TRY_LOG_OUT = 3


class State(Named):
    """The state of an instance. Most values are the API's own."""

    NOT_ASKED = 0
    """The list was requested without states, or the instance is deleted."""
    NOT_AUTHORIZED = 1
    AUTHORIZED = 2
    BLOCKED = 3
    SLEEP_MODE = 4
    STARTING = 5
    YELLOW_CARD = 6
    SUSPENDED = 7
    PENDING_PASSWORD = 8
    EXPIRED = 9
    """Instead of a state the API answered that the instance has expired."""
    CREATING = 10
    OTHER = 11
    """A state that this version has no name for."""
    UNKNOWN = 12
    """The state could not be learned: the question failed, or was refused."""


FLAG_ALLOW_HTTP = 1
LIST_STATES = 1
INSTANCE_DELETED = 1
INSTANCE_EXPIRED = 2
INSTANCE_FREE = 4
INSTANCE_PARTNER = 8

# --- structs ---


class ResultStruct(Structure):
    """``greenapi_result``."""

    _fields_: ClassVar = [
        ("tag", c_uint64),
        ("id", c_int64),
        ("status", c_int32),
        ("code", c_int32),
        ("http_status", c_int32),
        ("attempts", c_uint32),
        ("message", c_char * 224),
    ]


class OptionsStruct(Structure):
    """``greenapi_options``."""

    _fields_: ClassVar = [
        ("size", c_size_t),
        ("timeout_ms", c_uint32),
        ("connect_timeout_ms", c_uint32),
        ("max_retries", c_uint32),
        ("max_in_flight", c_uint32),
        ("requests_per_second", c_double),
        ("session", c_uint32),
        ("flags", c_uint32),
        ("ca_file", c_char_p),
        ("proxy", c_char_p),
        ("user_agent", c_char_p),
        ("ca_pem", c_char_p),
        ("instance_url", c_char_p),
        ("journal", c_char_p),
    ]


class InstanceStruct(Structure):
    """``greenapi_instance``."""

    _fields_: ClassVar = [
        ("id", c_int64),
        ("created", c_int64),
        ("deleted", c_int64),
        ("expires", c_int64),
        ("flags", c_uint32),
        ("state", c_int32),
        ("type", c_char * 16),
        ("tariff", c_char * 32),
        ("name", c_char * 168),
    ]


Pointer = c_void_p
"""A place for the address of a C object. The library itself writes it there, because a signal
handler's exception can end Python code at any step, and would lose an object on its way."""

FD: Any = c_size_t if sys.platform == "win32" else c_int
"""``greenapi_fd``: a descriptor; on Windows a socket."""


# --- the library ---


def _candidates() -> Iterator[tuple[str, str]]:
    """Where the library may be, in order: a description, and the name or path for the loader."""
    if sys.platform == "win32":
        names = ["greenapi.dll"]
    elif sys.platform == "darwin":
        names = ["libgreenapi.dylib"]
    else:
        names = ["libgreenapi.so", "libgreenapi.so.0"]
    inside = os.path.join(os.path.dirname(__file__), names[0])
    # The search goes on only when there is no such file: one that cannot be loaded is reported.
    if os.path.exists(inside):
        yield "inside the package", inside
        return
    chosen = os.environ.get("GREENAPI_LIBRARY")
    if chosen:
        yield "named by GREENAPI_LIBRARY", chosen
        return
    for name in reversed(names):
        yield "by the system's loader", name


def _load() -> ctypes.CDLL:
    failures = []
    for where, path in _candidates():
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            failures.append(f"{where}: {path} ({error})")
            continue
        _check_version(library, path)
        return library
    looked = "; ".join(failures)
    inside = os.path.dirname(__file__)
    raise ImportError(
        f"greenapi's shared library was not found. Looked inside the package: {inside}; in the "
        f"variable GREENAPI_LIBRARY: {os.environ.get('GREENAPI_LIBRARY') or 'not set'}; "
        f"and tried {looked}. Install greenapi from a wheel, or set GREENAPI_LIBRARY to the "
        "path of the library."
    )


def _check_version(library: ctypes.CDLL, path: str) -> None:
    try:
        version_of = library.greenapi_version
    except AttributeError:
        raise ImportError(f"{path} is not greenapi's library: it has no greenapi_version") from None
    version_of.restype = c_char_p
    version_of.argtypes = []
    found = version_of().decode()
    if found != __version__:
        raise ImportError(
            f"the Python package greenapi is version {__version__} but its library {path} is "
            f"version {found}: install the same version of both"
        )


_library = _load()


def _declare(name: str, restype: Any, *argtypes: Any) -> Any:
    function = getattr(_library, name)
    function.restype = restype
    function.argtypes = argtypes
    return function


# --- functions ---

_status_message: Callable[[int], bytes] = _declare("greenapi_status_message", c_char_p, c_int32)
_status_effect: Callable[[int], int] = _declare("greenapi_status_effect", c_int32, c_int32)
_version: Callable[[], bytes] = _declare("greenapi_version", c_char_p)
_options_init: Callable[[Any, int], None] = _declare(
    "greenapi_options_init", None, POINTER(OptionsStruct), c_size_t
)
_client_new: Callable[..., int] = _declare(
    "greenapi_client_new",
    c_int32,
    c_char_p,
    c_char_p,
    POINTER(OptionsStruct),
    POINTER(c_void_p),
    POINTER(ResultStruct),
)
client_free: Callable[[int], None] = _declare("greenapi_client_free", None, c_void_p)
queue_new: Callable[[Pointer], int] = _declare("greenapi_queue_new", c_int32, POINTER(c_void_p))
queue_free: Callable[[int], None] = _declare("greenapi_queue_free", None, c_void_p)
queue_fd: Callable[[Pointer], int] = _declare("greenapi_queue_fd", FD, c_void_p)
queue_submit: Callable[[Pointer, Pointer, int, int], int] = _declare(
    "greenapi_queue_submit", c_int32, c_void_p, c_void_p, c_int64, c_uint64
)
queue_cancel: Callable[[Pointer, int], int] = _declare(
    "greenapi_queue_cancel", c_size_t, c_void_p, c_uint64
)
_queue_take: Callable[[Pointer, Any, int, int], int] = _declare(
    "greenapi_queue_take", c_size_t, c_void_p, POINTER(ResultStruct), c_size_t, c_int
)

_list_instances: Callable[..., int] = _declare(
    "greenapi_client_list_instances",
    c_int32,
    c_void_p,
    c_uint32,
    POINTER(c_void_p),
    POINTER(ResultStruct),
)
_list_take: Callable[[Pointer, Any, int, int], int] = _declare(
    "greenapi_list_take", c_size_t, c_void_p, POINTER(InstanceStruct), c_size_t, c_int
)
list_fd: Callable[[Pointer], int] = _declare("greenapi_list_fd", FD, c_void_p)
_list_ended: Callable[[Pointer, Any], bool] = _declare(
    "greenapi_list_ended", c_bool, c_void_p, POINTER(ResultStruct)
)
list_free: Callable[[int], None] = _declare("greenapi_list_free", None, c_void_p)

# --- the functions in plain Python ---

Row = tuple[int, int, int, int, int, int, bytes]
"""A result: tag, id, status, code, HTTP status, attempts, and the message padded with NULs."""

_ROW = struct.Struct("@QqiiiI224s")
_INSTANCE = struct.Struct("@qqqqIi16s32s168s")


def library_version() -> str:
    """The version of the loaded library."""
    return _version().decode()


def status_message(status: int) -> str:
    """One plain sentence about a status, for any 32-bit number."""
    return _status_message(status).decode()


def status_effect(status: int) -> Effect:
    """What a status says about the instance, for any 32-bit number."""
    return Effect(_status_effect(status))


def client_new(out: Pointer, url: bytes, token: bytes, fields: dict[str, Any]) -> Row:
    """Makes a client in ``out``, which stays NULL on failure; returns the result.

    ``fields`` replace the defaults of ``greenapi_options``.
    """
    options = OptionsStruct()
    _options_init(options, ctypes.sizeof(options))
    for name, value in fields.items():
        setattr(options, name, value)
    error = bytearray(_ROW.size)
    outcome = ResultStruct.from_buffer(error)
    try:
        outcome.status = _client_new(url, token, options, out, outcome)
    finally:
        # Error reporters show the local variables of a traceback's frames.
        del token, fields, options
    return _ROW.unpack(error)


def list_new(out: Pointer, client: Pointer, flags: int) -> Row:
    """Begins a list in ``out``, which stays NULL on failure; returns the result."""
    error = bytearray(_ROW.size)
    outcome = ResultStruct.from_buffer(error)
    outcome.status = _list_instances(client, flags, out, outcome)
    return _ROW.unpack(error)


def list_ended(pointer: Pointer) -> Row | None:
    """How a list ended; ``None`` while more may come."""
    result = bytearray(_ROW.size)
    if not _list_ended(pointer, ResultStruct.from_buffer(result)):
        return None
    return _ROW.unpack(result)


class _Batch:
    """A buffer for a batch of structs, reused for every batch.

    The structs are read with ``struct``, which is much faster than ctypes' field by field.
    """

    __slots__ = ("_array", "_capacity", "_filled", "_rows", "_take")

    def __init__(self, kind: Any, layout: struct.Struct, take: Any, capacity: int) -> None:
        room = memoryview(bytearray(layout.size * capacity))
        # What `take` needs is made once: it is called for every result of a slow run.
        self._array = ((kind * capacity).from_buffer(room),)
        self._capacity = (capacity,)
        self._filled = [room[: layout.size * count] for count in range(capacity + 1)].__getitem__
        self._rows = layout.iter_unpack
        self._take = take

    def take(self, rows: deque[Any], pointer: Pointer, wait_ms: int) -> None:
        """Takes from a queue or list, up to the capacity, to the end of ``rows``.

        Nothing is lost when a signal handler raises: handlers run between steps of Python code, and
        from the library's handing over to the storing is one step, the last line.
        """
        counts = map(self._take, (pointer,), self._array, self._capacity, (wait_ms,))
        rows.extend(chain.from_iterable(map(self._rows, map(self._filled, counts))))


def results(capacity: int) -> _Batch:
    """A buffer for results."""
    return _Batch(ResultStruct, _ROW, _queue_take, capacity)


def instances(capacity: int) -> _Batch:
    """A buffer for instances."""
    return _Batch(InstanceStruct, _INSTANCE, _list_take, capacity)
