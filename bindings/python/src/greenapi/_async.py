"""The client for asyncio: the running loop watches the queue's descriptor itself.

No thread, no polling: while deletions are under way their queue's descriptor is one of the
loop's readers, and while none is there is nothing in the loop at all, so loops may come and go.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Optional, TypeVar, Union

from ._client import PATIENCE, BaseClient
from ._errors import Result, refused
from ._handle import Owned
from ._queue import Bulk, borrow, checked_id, give_back, next_tag

_Self = TypeVar("_Self", bound="AsyncClient")


class AsyncClient(BaseClient):
    """A client for asyncio; the options are those of `Client`.

    It belongs to no event loop: any number of them may use it, one after the other or at once
    in several threads, uvloop's too.

        async with greenapi.AsyncClient(url, token, session="log_out") as client:
            await client.delete_instance(1101000001)

    Closing does not cancel: awaited calls complete.
    """

    async def __aenter__(self: _Self) -> _Self:
        self._open()
        return self

    async def __aexit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        """The same as `close`, which never waits, under the name that async code looks for."""
        self.close()

    async def delete_instance(self, id_instance: int) -> Result:
        """Deletes one instance.

        Cancelling the task cancels the request at once; one that had been sent by then may
        have been carried out, and a later call with the same id tells.

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
        number = checked_id(id_instance)
        result = await _Channel.current().delete(client, number)
        return result.raise_for_status()

    def delete_instances(
        self, ids: Union[Iterable[int], AsyncIterable[int]]
    ) -> AsyncGenerator[Result, None]:
        """Deletes many instances; ``async for`` iterates over the results as they complete.

        As `Client.delete_instances`; the ids may also come from an async iterable, which is
        drawn from in a task of its own. Leaving the loop early cancels what is left: at the
        loop's next turn after ``break``, at once with ``contextlib.aclosing`` or ``aclose()``.

        Raises:
            TypeError: ``ids`` is not iterable.
            OutOfResources: no descriptor is left to wait with.
            RuntimeError: the client is closed.
        """
        source = ids.__aiter__() if isinstance(ids, AsyncIterable) else iter(ids)
        return _results(self._open(), self._window, source)


class _Channel:
    """The single deletions under way in one running loop, and the queue they share."""

    _of_thread = threading.local()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue = borrow()
        self._waiting: dict[int, asyncio.Future[Result]] = {}
        loop.add_reader(self._queue.fd, self._deliver)

    @classmethod
    def current(cls) -> "_Channel":
        """The running loop's channel; it exists while something is under way in it."""
        loop = asyncio.get_running_loop()
        channel: Optional[_Channel] = getattr(cls._of_thread, "channel", None)
        if channel is None or channel._loop is not loop:
            channel = cls._of_thread.channel = cls(loop)
        return channel

    async def delete(self, client: Owned, id_instance: int) -> Result:
        tag = next_tag()
        status = self._queue.submit(client, id_instance, tag)
        if status:
            self._retire_if_idle()
            return refused(id_instance, status)
        future: asyncio.Future[Result] = self._loop.create_future()
        self._waiting[tag] = future
        try:
            return await future
        except BaseException:
            # Not there any more when the result and the cancellation came at the same time.
            if tag in self._waiting:
                self._queue.cancel(tag)
            raise

    def _deliver(self) -> None:
        for tag, result in self._queue.take():
            future = self._waiting.pop(tag)
            if not future.done():
                future.set_result(result)
        self._retire_if_idle()

    def _retire_if_idle(self) -> None:
        if self._waiting:
            return
        self._loop.remove_reader(self._queue.fd)
        give_back(self._queue)
        if getattr(self._of_thread, "channel", None) is self:
            del self._of_thread.channel


async def _results(
    client: Owned, window: int, source: Union[Iterator[int], AsyncIterator[int]]
) -> AsyncGenerator[Result, None]:
    loop = asyncio.get_running_loop()
    bulk = Bulk(client, window)
    # Set whenever there is a reason to look again: a result, an id, the end of the ids.
    wake = asyncio.Event()
    room = asyncio.Event()
    drawing = True
    failure: Optional[Exception] = None

    def collect() -> None:
        bulk.collect()
        wake.set()

    async def feed(ids: AsyncIterator[int]) -> None:
        nonlocal drawing, failure
        try:
            while True:
                while not bulk.has_room:
                    room.clear()
                    await room.wait()
                bulk.submit(await ids.__anext__())
                wake.set()
        except StopAsyncIteration:
            pass
        except Exception as error:
            failure = error
        finally:
            drawing = False
            wake.set()

    feeder = None
    loop.add_reader(bulk.queue.fd, collect)
    try:
        if isinstance(source, AsyncIterator):
            feeder = asyncio.ensure_future(feed(source))
        while True:
            patience = time.monotonic() + PATIENCE
            while not isinstance(source, AsyncIterator) and drawing and bulk.has_room:
                try:
                    bulk.submit(next(source))
                except StopIteration:
                    drawing = False
                except Exception as error:
                    failure = error
                    drawing = False
                if time.monotonic() > patience:
                    wake.set()
                    break
            if bulk.is_ready:
                yield bulk.next_result()
                room.set()
            elif bulk.is_empty and not drawing:
                break
            elif wake.is_set():
                # Out of patience: the loop's other work comes first, the readers among it.
                wake.clear()
                await asyncio.sleep(0)
            else:
                await wake.wait()
                wake.clear()
        if failure is not None:
            raise failure
    finally:
        del failure
        # After a fork the selector is still the parent's.
        if not (loop.is_closed() or bulk.queue.inherited):
            loop.remove_reader(bulk.queue.fd)
        bulk.close()
        if feeder is not None:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
