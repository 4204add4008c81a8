"""trio's event loop, as `AsyncClient` needs it; imported only in programs that use trio."""

from __future__ import annotations

import contextlib
import contextvars
import math

import trio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any, Callable


def is_running() -> bool:
    """Whether the caller is a task of trio's."""
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


class Trio:
    """The running call of ``trio.run``."""

    def __init__(self) -> None:
        self.running = trio.lowlevel.current_trio_token()

    event = staticmethod(trio.Event)

    @property
    def usable(self) -> bool:
        return is_running() and trio.lowlevel.current_trio_token() is self.running

    def watch(self, fd: int, callback: Callable[[], object]) -> Callable[[], None]:
        watching = True

        async def watch() -> None:
            with contextlib.suppress(trio.ClosedResourceError):
                while watching:
                    await trio.lowlevel.wait_readable(fd)
                    callback()

        cancel = self._spawn(watch, lambda: None)

        def stop() -> None:
            nonlocal watching
            watching = False
            if not self.usable:
                return
            cancel()
            # At once, because another task may watch the descriptor before this one has its turn.
            trio.lowlevel.notify_closing(fd)

        return stop

    def spawn(
        self, function: Callable[[], Awaitable[None]], end: Callable[[], object]
    ) -> Callable[[], None]:
        cancel = self._spawn(function, end)

        def cancel_from_anywhere() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                self.running.run_sync_soon(cancel)

        return cancel_from_anywhere

    def _spawn(
        self, function: Callable[[], Awaitable[None]], end: Callable[[], object]
    ) -> Callable[[], None]:
        scope = trio.CancelScope()

        async def run() -> None:
            try:
                with scope:
                    await function()
            finally:
                end()

        trio.lowlevel.spawn_system_task(run, context=contextvars.copy_context())
        return scope.cancel

    async def checkpoint(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()

    async def wait(self, event: Any, seconds: float | None) -> None:
        with trio.move_on_after(math.inf if seconds is None else seconds):
            await event.wait()
