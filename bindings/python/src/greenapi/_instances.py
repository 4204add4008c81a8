"""The list of the account's instances."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple, TypeVar

from . import _abi
from ._abi import State
from ._errors import error_class, result_of
from ._handle import Owned, Single
from ._queue import Waitable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_Self = TypeVar("_Self")

_BATCH = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Instance(NamedTuple):
    """An instance as the account's list has it. Immutable; may be pickled, compared and kept.

    An `Instance` has no secrets: the instance's own token stays in the library.
    """

    id_instance: int
    """The id."""
    name: str
    """The name, cut to at most 167 bytes of UTF-8. It may contain any character, line ends too."""
    type: str
    """The messenger: ``whatsapp``, ``telegram``, ``v3`` (MAX), or what else the API says."""
    tariff: str
    """The tariff."""
    state: State
    """The state; `State.NOT_ASKED` unless the list was requested with ``states=True``."""
    created: datetime | None
    """When the instance was created: an aware UTC time; ``None`` where the API gives none."""
    deleted: datetime | None
    """When the instance was deleted. The list has deleted instances for three months."""
    expires: datetime | None
    """When the instance expires or expired."""
    is_deleted: bool
    """Whether the instance is deleted."""
    is_expired: bool
    """Whether the instance has expired. The list may show a new one as expired for an hour."""
    is_free: bool
    """Whether the instance is free of charge."""
    is_partner: bool
    """Whether the instance was made by the partner methods."""

    def as_dict(self) -> dict[str, Any]:
        """A dict of the fields, with states by their names and times as ISO 8601.

        Only what JSON has, so ``json.dumps`` takes it.
        """
        return {
            name: (
                value.isoformat()
                if isinstance(value, datetime)
                else value.name
                if isinstance(value, State)
                else value
            )
            for name, value in self._asdict().items()
        }


def _instance(fields: tuple[Any, ...]) -> Instance:
    number, created, deleted, expires, flags, state, *texts = fields
    kind, tariff, name = (text[: text.index(0)].decode() for text in texts)
    return Instance(
        number,
        name,
        kind,
        tariff,
        State(state) if state in _STATES else State.OTHER,
        _time(created),
        _time(deleted),
        _time(expires),
        bool(flags & _abi.INSTANCE_DELETED),
        bool(flags & _abi.INSTANCE_EXPIRED),
        bool(flags & _abi.INSTANCE_FREE),
        bool(flags & _abi.INSTANCE_PARTNER),
    )


_STATES = frozenset(State)


def _time(seconds: int) -> datetime | None:
    return _EPOCH + timedelta(seconds=seconds) if seconds else None


class Listing(Waitable):
    """A ``greenapi_list`` under way."""

    def __init__(self, client: Owned, states: bool) -> None:
        owned = Owned(_abi.list_free)
        flags = _abi.LIST_STATES if states else 0
        row = _abi.list_new(owned.pointer, client.pointer, flags)
        if not owned.pointer:
            result = result_of(row)
            raise error_class(result.status)(result)
        super().__init__(owned, _abi.list_fd(owned.pointer))
        self._batch = _abi.instances(_BATCH)
        self._ready: deque[tuple[Any, ...]] = deque()
        self._is_complete = False

    def next(self) -> Instance | None:
        """The next instance, or ``None`` when the caller has to wait for one.

        Raises:
            StopIteration: the list is complete.
            Error: the list broke off.
            RuntimeError: the list was closed before it was complete.
        """
        if self._ready:
            return _instance(self._ready.popleft())
        owned = self._owned
        if owned is None:
            if self._is_complete:
                raise StopIteration
            raise RuntimeError("this list ended before it was complete: begin a new one")
        self.refuse_if_inherited()
        self._batch.take(self._ready, owned.pointer, 0)
        if self._ready:
            return _instance(self._ready.popleft())
        row = _abi.list_ended(owned.pointer)
        if row is None:
            return None
        result = result_of(row)
        self._is_complete = result.ok
        self.close()
        if result.ok:
            raise StopIteration
        raise error_class(result.status)(result)

    def close(self) -> None:
        """Ends the list; instances not yet taken are lost."""
        super().close()
        self._ready.clear()


class Instances(Single):
    """The instances of an account, from `Client.instances`: an iterator and a context manager.

    Instances come while the list is still being read. A list that breaks off raises an `Error` at
    its end, so a part is never taken for the whole. Ctrl-C, ``close``, the end of the block and
    dropping the iterator end the list at once; iterating on after that raises ``RuntimeError``.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> Instance:
        listing = self._listing
        try:
            while True:
                found = listing.next()
                if found is not None:
                    return found
                listing.wait()
        except BaseException:
            listing.close()
            raise

    def close(self) -> None:
        """Ends the list."""
        self._listing.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
