"""The client for asyncio and trio: the event loop itself watches the queue's descriptor.

There is no thread and no polling; only for loops that cannot watch sockets, which Windows'
ProactorEventLoop is, one thread watches. A client is registered with a loop only while a call is
under way in that loop or a caller waits for a result, so loops may come and go.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import selectors
import socket
import sys
import threading
from collections import deque
from collections.abc import AsyncIterable

from ._abi import Status
from ._client import BaseClient, bool_option
from ._errors import Result, is_of, refused, remember, result_of
from ._handle import Single
from ._queue import (
    SETTLING_MS,
    Bulk,
    Waiting,
    borrow,
    delete_one,
    fits,
    give_back,
    integer,
    next_tag,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable
    from types import TracebackType
    from typing import Any, Callable, ClassVar, NoReturn, Protocol, SupportsIndex, TypeVar, Union

    from ._abi import Row
    from ._handle import Owned
    from ._instances import Instance, Listing
    from ._queue import Waitable

    _Self = TypeVar("_Self")

    class _Event(Protocol):
        # The methods that asyncio's and trio's events share.
        def set(self) -> object: ...
        def wait(self) -> Awaitable[object]: ...

    class _Loop(Protocol):
        # An event loop, as this module needs it.

        # The loop's identity: two of the same loop compare equal.
        @property
        def running(self) -> object: ...

        # Whether the loop still takes callbacks.
        @property
        def usable(self) -> bool: ...

        # Makes an event that is set once.
        def event(self) -> _Event: ...

        # Calls back while a descriptor is readable; returns the function that ends the watch, which
        # is harmless in a loop that is not usable.
        def watch(self, fd: int, callback: Callable[[], object]) -> Callable[[], None]: ...

        # Runs a function in a task of its own, and then `end` in any case; returns a function that
        # cancels the task from any thread.
        def spawn(
            self, function: Callable[[], Awaitable[None]], end: Callable[[], object]
        ) -> Callable[[], None]: ...

        # Raises if the task is to be cancelled, before it does what cannot be undone.
        async def checkpoint(self) -> None: ...

        # Waits for an event, for so many seconds at most.
        async def wait(self, event: _Event, seconds: float | None) -> None: ...

    AnyIds = Union[Iterable[SupportsIndex], AsyncIterable[SupportsIndex]]


class AsyncClient(BaseClient):
    """A client for asyncio and trio; the options are those of `Client`.

    A client belongs to no event loop: any number of loops may use it, one after the other or at
    once in several threads, uvloop's too.

        async with greenapi.AsyncClient(url, token, session="log_out") as client:
            await client.delete_instance(1101000001)

    Closing does not cancel: awaited calls complete.
    """

    async def __aenter__(self: _Self) -> _Self:
        self._open()  # type: ignore[attr-defined]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __enter__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is used with 'async with', not with 'with'")

    def __exit__(self, *_: object) -> None:
        pass

    async def aclose(self) -> None:
        """The same as `close`, which never waits, under the name that async code expects."""
        self.close()

    async def delete_instance(self, id_instance: SupportsIndex) -> Result:
        """Deletes one instance.

        Cancelling the task cancels the request at once; `fate` gives the result of the deletion
        from the exception.

        Args:
            id_instance: 1 … 9 999 999 999.

        Returns:
            The result, whose ``ok`` is true: the instance is gone.

        Raises:
            Error: the subclass for what happened; `OutcomeUnknown` where the instance may be
                gone nevertheless.
            TypeError: the id is not an integer.
            RuntimeError: the client is closed.
        """
        client = self._open()
        number = integer("id_instance", id_instance)
        if not fits(number):
            return delete_one(client, number)
        try:
            await _current_loop().checkpoint()
        except BaseException as error:
            remember(error, refused(number, Status.CANCELLED))
            raise
        return await _Channel.current().delete(client, number)

    def delete_instances(self, ids: AnyIds) -> AsyncDeletions:
        """Deletes many instances; ``async for`` iterates over the results as they complete.

        As `Client.delete_instances`; the ids may also come from an async iterable, which is
        drawn from in a task of its own, at most ``max_in_flight`` ids further ahead.

            async with client.delete_instances(ids) as results:
                async for result in results:
                    ...
            async for result in results:  # after a break: the results of the rest
                ...

        Raises:
            TypeError: ``ids`` is not iterable.
            OutOfResources: no descriptor is left to wait with.
            RuntimeError: the client is closed.
        """
        if isinstance(ids, AsyncIterable):
            feed = _Feed(ids.__aiter__(), 2 * self._max_in_flight)
            # Sized, because few ids are drawn ahead: after a cancellation each has its result.
            return AsyncDeletions(self._bulk(feed, sized=True), feed)
        return AsyncDeletions(self._bulk(iter(ids), hasattr(ids, "__len__")), None)

    def instances(self, states: bool = False) -> AsyncInstances:
        """Lists the account's instances: as `Client.instances`, for ``async for``."""
        from ._instances import Listing

        return AsyncInstances(Listing(self._open(), bool_option("states", states)))


class AsyncInstances(Single):
    """The instances of an account, from `AsyncClient.instances`.

    An async iterator and context manager; as `Instances`. Cancelling the waiting task also ends
    the list at once.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> Instance:
        listing = self._listing
        try:
            while True:
                found = listing.next()
                if found is not None:
                    return found
                await _readable(listing)
        except StopIteration:
            raise StopAsyncIteration from None
        except BaseException:
            listing.close()
            raise

    def close(self) -> None:
        """Ends the list."""
        self._listing.close()

    async def aclose(self) -> None:
        """The same as `close`, under the name that async code expects."""
        self.close()

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncDeletions(Single):
    """The results of `AsyncClient.delete_instances`: an async iterator and context manager.

    As `Deletions`: deletions start only as the caller iterates. When the waiting task is cancelled,
    the rest of the run is cancelled too; iterating on then gives the results of the rest.
    """

    _feed: _Feed | None = None

    def __init__(self, bulk: Bulk, feed: _Feed | None) -> None:
        self._bulk = bulk
        self._feed = feed
        self._busy = False

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> Result:
        if self._busy:
            raise RuntimeError("another task is drawing from these deletions")
        self._busy = True
        bulk = self._bulk
        bulk.handed_out = None
        try:
            try:
                while True:
                    if bulk.is_ready:
                        return bulk.next_result()
                    await self._draw()
                    if bulk.is_over:
                        break
                    bulk.collect()
            finally:
                self._busy = False
                if self._feed is not None:
                    self._feed.allow(bulk.ahead)
        except BaseException:
            bulk.interrupt()
            self.cancel()
            raise
        await self.aclose()
        bulk.raise_failure()
        raise StopAsyncIteration

    async def _draw(self) -> None:
        """Draws ids, then waits for a reason to draw or to collect."""
        bulk, feed = self._bulk, self._feed
        loop = _current_loop()
        if not bulk.is_cancelled:
            await loop.checkpoint()
        event = loop.event()
        if feed is not None:
            feed.tell(loop, event)
        pause = bulk.draw()
        if bulk.is_ready or bulk.is_over or bulk.is_cancelled:
            return
        stop = loop.watch(bulk.fd, event.set)
        try:
            if feed is not None:
                feed.allow(bulk.ahead)
            await loop.wait(event, pause)
        finally:
            # After a fork the selector is still the parent's.
            if not bulk.inherited:
                stop()

    def cancel(self) -> None:
        """Cancels the rest of the run. Iterating on gives the results of the rest, and ends soon.

        As `Deletions.cancel`; an async iterable is not drawn from any more.
        """
        self._bulk.cancel()
        if self._feed is not None:
            self._feed.stop()

    def close(self) -> None:
        """Cancels the rest and ends the iterator: results not yet handed out are lost."""
        self._bulk.close()
        if self._feed is not None:
            self._feed.stop()

    async def aclose(self) -> None:
        """As `close`, and waits until the task that draws from an async iterable has ended."""
        self.close()
        if self._feed is not None:
            await self._feed.ended()

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()
        self._bulk.settle()
        if self._feed is not None:
            await self._feed.ended()

    def __del__(self) -> None:
        if self._feed is not None:
            self._feed.stop()


class _Feed:
    """The ids of an async iterable, drawn ahead in a task of its own.

    A feed has no reference to the run that it feeds, so that dropping the run ends the run.
    """

    def __init__(self, source: AsyncIterator[Any], limit: int) -> None:
        self._source = source
        self._limit = limit
        self._allowed = limit
        self._items: deque[Any] = deque()
        self._failure: Exception | None = None
        self._drawing = False
        self._over = False
        self._tell: _Event | None = None
        self._room: _Event | None = None
        self._end: _Event | None = None
        self._cancel: Callable[[], None] | None = None

    def __next__(self) -> Any:
        items = self._items
        if items:
            # In two steps between which no signal handler runs, unlike after a call of `popleft`.
            one = items[0]
            del items[0]
            return one
        if not self._over:
            raise Waiting
        failure, self._failure = self._failure, None
        raise StopIteration if failure is None else failure

    def __iter__(self) -> _Feed:
        return self

    def tell(self, loop: _Loop, event: _Event) -> None:
        """Sets the event at the next id and at the end; begins to draw."""
        self._tell = event
        if self._cancel is None and not self._over:
            self._loop = loop
            self._end = loop.event()
            self._cancel = loop.spawn(self._draw, self._ended)

    def allow(self, ahead: int) -> None:
        """Allows more ids to be drawn, given how many are ahead of the results already."""
        self._allowed = self._limit - ahead - len(self._items) - self._drawing
        if self._allowed > 0 and self._room is not None:
            self._room.set()

    def stop(self) -> None:
        """Ends the drawing of ids."""
        self._over = True
        if self._cancel is not None:
            self._cancel()

    async def ended(self) -> None:
        """Waits until the task that draws has ended."""
        # Without `_cancel` a signal handler's exception kept the task from being set up.
        if self._cancel is not None and self._end is not None and self._loop.usable:
            await self._end.wait()

    async def _draw(self) -> None:
        try:
            while not self._over:
                while self._allowed <= 0:
                    self._room = self._loop.event()
                    await self._room.wait()
                self._allowed -= 1
                self._drawing = True
                self._items.append(await self._source.__anext__())
                self._drawing = False
                if self._tell is not None:
                    self._tell.set()
        except StopAsyncIteration:
            pass
        except Exception as error:
            self._failure = error

    def _ended(self) -> None:
        self._over = True
        for event in (self._tell, self._end):
            if event is not None:
                event.set()


# --- event loops ---


class _Asyncio:
    """asyncio's loop, uvloop's too."""

    def __init__(self) -> None:
        self.running = asyncio.get_running_loop()

    event = staticmethod(asyncio.Event)

    @property
    def usable(self) -> bool:
        return not self.running.is_closed()

    def watch(self, fd: int, callback: Callable[[], object]) -> Callable[[], None]:
        try:
            self.running.add_reader(fd, callback)
        except NotImplementedError:
            return _Watcher.of_this_process().watch(self.running, fd, callback)

        def stop() -> None:
            if self.usable:
                self.running.remove_reader(fd)

        return stop

    def spawn(self, function: Callable[[], Any], end: Callable[[], object]) -> Callable[[], None]:
        task = asyncio.ensure_future(function())
        # A task that is cancelled before its first turn never runs, so `end` is not left to it.
        task.add_done_callback(lambda _: end())

        def cancel() -> None:
            if self.usable:
                self.running.call_soon_threadsafe(task.cancel)

        return cancel

    async def checkpoint(self) -> None:
        # In the loop's next turn a request to cancel is delivered, and a deadline that is over
        # makes one.
        await asyncio.sleep(0)

    async def wait(self, event: Any, seconds: float | None) -> None:
        timer = None if seconds is None else self.running.call_later(seconds, event.set)
        try:
            await event.wait()
        finally:
            if timer is not None:
                timer.cancel()


class _Watch:
    """A descriptor that the watcher watches for a loop, until there is no callback any more."""

    def __init__(
        self,
        watcher: _Watcher,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        callback: Callable[[], object],
    ) -> None:
        self.fd = fd
        self.callback: Callable[[], object] | None = callback
        self._watcher = watcher
        self._loop = loop

    def readable(self) -> None:
        """Tells the loop, from the watcher's thread."""
        # A closed loop raises RuntimeError.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        if self.callback is not None:
            self.callback()
            # Not before the waiting task's turn, which usually stops the watch.
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self.callback is not None:
            self._watcher.order(self)


class _Watcher:
    """The thread that watches for all loops without readers, which Windows' ProactorEventLoop is.

    It is never ended: another one would need another pair of sockets, which on Windows are
    connections whose ports remain taken for minutes.
    """

    _of_process: ClassVar[dict[int, _Watcher]] = {}

    # Windows' select accepts 512 sockets.
    _LIMIT = 500

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._running = False
        self._orders: deque[_Watch] = deque()
        self._watches = 0

    @classmethod
    def of_this_process(cls) -> _Watcher:
        """The watcher; after a fork the child's is a new one."""
        # setdefault, because a lock might be held by another thread at a fork.
        process = os.getpid()
        return cls._of_process.get(process) or cls._of_process.setdefault(process, cls())

    def watch(
        self, loop: asyncio.AbstractEventLoop, fd: int, callback: Callable[[], object]
    ) -> Callable[[], None]:
        """Calls back in the loop while a descriptor is readable; returns what ends that."""
        with self._starting:
            if self._watches >= self._LIMIT:
                raise OSError(errno.EMFILE, "too many runs wait at once for one thread")
            if not self._running:
                self._ours, theirs = socket.socketpair()
                # A full buffer wakes the thread as well.
                self._ours.setblocking(False)
                threading.Thread(
                    target=self._run, args=(theirs,), name="greenapi-watch", daemon=True
                ).start()
                self._running = True
            self._watches += 1
        watch = _Watch(self, loop, fd, callback)
        self.order(watch)

        def stop() -> None:
            if watch.callback is not None:
                # It refers to what the caller has, which may be dropped now.
                watch.callback = None
                with self._starting:
                    self._watches -= 1
                self.order(watch)

        return stop

    def order(self, watch: _Watch) -> None:
        """Has the thread look at a watch, whose descriptor it begins or ends to watch."""
        self._orders.append(watch)
        with contextlib.suppress(BlockingIOError):
            self._ours.send(b"\0")

    def _run(self, woken: socket.socket) -> None:
        selector = selectors.DefaultSelector()
        selector.register(woken, selectors.EVENT_READ)
        while True:
            try:
                ready = selector.select()
            except OSError:
                # A descriptor was closed, and the order to end its watch has come.
                ready = []
            for key, _ in ready:
                if key.data is None:
                    woken.recv(4096)
                else:
                    # It stays readable until the loop has taken what is there.
                    selector.unregister(key.fd)
                    key.data.readable()
            while self._orders:
                watch = self._orders.popleft()
                watched = selector.get_map().get(watch.fd)
                if watch.callback is None:
                    if watched is not None and watched.data is watch:
                        selector.unregister(watch.fd)
                elif watched is None:
                    selector.register(watch.fd, selectors.EVENT_READ, watch)


def _current_loop() -> _Loop:
    """The event loop that runs the caller."""
    trio = sys.modules.get("trio")
    if trio is not None:
        from . import _trio

        if _trio.is_running():
            return _trio.Trio()
    return _Asyncio()


async def _readable(what: Waitable) -> None:
    """Waits until there is something to take."""
    loop = _current_loop()
    event = loop.event()
    stop = loop.watch(what.fd, event.set)
    try:
        await event.wait()
    finally:
        # After a fork the selector is still the parent's.
        if not what.inherited:
            stop()


class _Channel:
    """The single deletions under way in one running loop, and the queue they share."""

    _of_thread = threading.local()

    def __init__(self, loop: _Loop) -> None:
        self._loop = loop
        self._queue = borrow()
        self._rows: deque[Row] = deque()
        self._waiting: dict[int, _Event] = {}
        self._results: dict[int, Result] = {}
        self._owes = False
        self._stop = loop.watch(self._queue.fd, self._deliver)

    @classmethod
    def current(cls) -> _Channel:
        """The running loop's channel; it exists while something is under way in it."""
        loop = _current_loop()
        channel: _Channel | None = getattr(cls._of_thread, "channel", None)
        if channel is None or channel._loop.running is not loop.running:
            channel = cls._of_thread.channel = cls(loop)
        return channel

    async def delete(self, client: Owned, id_instance: int) -> Result:
        tag = next_tag()
        statuses: list[int] = []
        result = None
        try:
            event = self._waiting[tag] = self._loop.event()
            try:
                self._queue.submit(statuses, client, id_instance, tag)
                if statuses[0]:
                    result = refused(id_instance, statuses[0])
                else:
                    await event.wait()
                    result = self._results[tag]
            except BaseException:
                result = self._fate(id_instance, tag, statuses)
                raise
            finally:
                self._waiting.pop(tag, None)
                self._results.pop(tag, None)
                self._retire_if_idle()
            return result.raise_for_status()
        except BaseException as error:
            if result is not None and not is_of(error, result):
                remember(error, result)
            raise

    def _fate(self, id_instance: int, tag: int, statuses: list[int]) -> Result | None:
        """Cancels a deletion; returns its result, unless the library has stopped."""
        status = statuses[0] if statuses else Status.CANCELLED
        if status:
            return refused(id_instance, status)
        if tag not in self._results:
            self._queue.cancel(tag)
            # See SETTLING_MS for how soon the result of a cancelled call comes.
            while tag not in self._results and self._deliver(SETTLING_MS):
                pass
        if tag not in self._results:
            self._owes = True
        return self._results.get(tag)

    def _deliver(self, wait_ms: int = 0) -> int:
        try:
            taken = self._queue.take(self._rows, wait_ms)
            self._sort()
        except BaseException:
            # A signal handler's; the loop does not call again for what has been taken.
            self._sort()
            raise
        return taken

    def _sort(self) -> None:
        rows = self._rows
        while rows:
            row = rows[0]
            event = self._waiting.get(row[0])
            if event is not None:
                self._results[row[0]] = result_of(row)
                event.set()
            del rows[0]

    def _retire_if_idle(self) -> None:
        if self._waiting:
            return
        # First, because a signal handler's exception must not leave a channel that watches nothing.
        if getattr(self._of_thread, "channel", None) is self:
            del self._of_thread.channel
        if not self._queue.inherited:
            self._stop()
        if self._owes:
            self._queue.close()
        else:
            give_back(self._queue)
