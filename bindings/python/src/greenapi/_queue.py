"""Queues: how Python waits for the library without blocking inside it.

Every wait of this package, blocking or async, is a submission to a queue and then a wait for
the queue's descriptor in Python's own hands, where signal handlers run and event loops turn.

A queue has one user at a time, who borrows it from a pool and returns it when nothing is under
way in it. A user that leaves early cancels the rest by a statement, not by a finalizer, and then
has the results of the rest at once.
"""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from itertools import count
from math import ceil
from time import monotonic

from . import _abi
from ._errors import error_class, refused, remember, result_of
from ._handle import Handle, Owned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Callable, SupportsIndex

    from ._errors import Result

PATIENCE = 0.005
"""Seconds that an iterable may take for its ids before results are collected: a slow one (a
database, a pace of its own) must not hold back completed results."""

SETTLING_MS = 1000
"""How long to wait for the results of cancelled deletions. They come within a millisecond, so
event loops may wait for them too; the limit guards against a library that has stopped."""

_GRACE = 0.25
"""Seconds after a blocking call's timeout in which the library itself ends a call whose request
was started at once, even on a busy machine: a call that found no connection must not be reported
as one whose turn did not come."""

_CATCHING_UP = 0.1
"""Seconds by which a pace may lag and still catch up."""

_TURN = 0.1
"""Seconds after which a wait on Windows ends, because Ctrl-C does not end one there."""

_BATCH = 64
"""Results taken in one call: enough to make the call's cost negligible, in 16 KiB."""

_IDLE_MAX = 32
"""Idle queues kept; each holds a descriptor."""

_forks = 0
"""Forks between the start of the program and this process."""

next_tag = count(1).__next__
"""A tag that no other submission of this process has; callable from any thread."""


class Waitable(Handle):
    """A C object whose descriptor is readable while there is something to take."""

    def __init__(self, pointer: int, free: Callable[[int], None], fd: int) -> None:
        self._owned = Owned(pointer, free)
        self._born = _forks
        self._poll: Any = None
        self._poll_type: Any = None
        self.fd: int = fd

    @property
    def inherited(self) -> bool:
        """Whether it was made before a fork: what is under way belongs to the parent."""
        return self._born != _forks

    def refuse_if_inherited(self) -> None:
        """Raises RuntimeError in a child of the process that made it."""
        if self.inherited:
            raise RuntimeError("they belong to the parent process: begin them again in this one")

    def wait(self, seconds: float | None = None) -> None:
        """Waits for something to take, at most so long. Signal handlers run, and may raise."""
        self.refuse_if_inherited()
        # Looked up each time, because eventlet removes poll and replaces select.
        poll_type = getattr(select, "poll", None)
        if poll_type is None:
            if sys.platform == "win32":
                seconds = _TURN if seconds is None else min(seconds, _TURN)
            select.select((self.fd,), (), (), seconds)
            return
        if self._poll_type is not poll_type:
            self._poll_type = poll_type
            self._poll = poll_type()
            self._poll.register(self.fd, select.POLLIN)
        self._poll.poll(None if seconds is None else ceil(seconds * 1000))


class Queue(Waitable):
    """A ``greenapi_queue`` with a buffer for a batch of its results.

    Raises:
        OutOfResources: no descriptor or memory is left.
    """

    def __init__(self) -> None:
        pointer, status = _abi.queue_new()
        if not pointer:
            result = refused(0, status)
            raise error_class(result.status)(result)
        super().__init__(pointer, _abi.queue_free, _abi.queue_fd(pointer))
        self._results = _abi.results(_BATCH)

    def submit(self, client: Owned, id_instance: int, tag: int) -> int:
        """Submits a deletion; returns a status. A result follows exactly when the status is 0."""
        return _abi.queue_submit(self._open().pointer, client.pointer, id_instance, tag)

    def cancel(self, tag: int) -> None:
        """Cancels the submissions with this tag; their results come like all others."""
        owned = self._owned
        if owned is not None:
            _abi.queue_cancel(owned.pointer, tag)

    def take(self, wait_ms: int = 0) -> list[tuple[int, Result]]:
        """The results that wait, a batch at most, with their tags.

        Waits up to ``wait_ms`` for the first one, without running signal handlers; returns at once
        when nothing is under way.
        """
        rows = self._results.take(self._open().pointer, wait_ms)
        return [(row[0], result_of(row)) for row in rows]


# List operations are atomic, so the pool needs no lock that a fork could leave held.
_idle: list[Queue] = []


def borrow() -> Queue:
    """Borrows an empty queue for the caller alone."""
    try:
        return _idle.pop()
    except IndexError:
        return Queue()


def give_back(queue: Queue) -> None:
    """Takes back a queue in which nothing is under way and no result waits."""
    if queue.inherited or len(_idle) >= _IDLE_MAX:
        queue.close()
    else:
        _idle.append(queue)


def _after_fork_in_child() -> None:
    global _forks
    _forks += 1
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


# --- one deletion ---


def delete_one(client: Owned, id_instance: int, timeout: float | None = None) -> Result:
    """Deletes one instance and waits; an exception meanwhile cancels the request.

    ``timeout`` counts from now, as in the library's own blocking call: a call whose turn does not
    come in time ends. (In a queue the timeout counts from the start of the request.)
    """
    if not fits(id_instance):
        return _refused_by_the_library(client, id_instance)
    queue = borrow()
    end = None if timeout is None else monotonic() + timeout + _GRACE
    results: list[tuple[int, Result]] = []
    under_way = late = False
    try:
        # Set first, because an interrupt may come between the two lines.
        under_way = True
        status = queue.submit(client, id_instance, 0)
        under_way = status == 0
        while under_way and not results:
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                queue.cancel(0)
                late, end, left = True, None, None
            queue.wait(left)
            results = queue.take()
    except BaseException as error:
        if under_way and not results:
            queue.cancel(0)
            results = queue.take(SETTLING_MS)
        if results:
            give_back(queue)
            remember(error, results[0][1])
        else:
            queue.close()
        raise
    give_back(queue)
    result = results[0][1] if results else refused(id_instance, status)
    return _too_late(result) if late else result


_ENDED_BY_TIME = {
    _abi.Status.CANCELLED: _abi.Status.NOT_STARTED,
    _abi.Status.CANCELLED_IN_FLIGHT: _abi.Status.TIMEOUT,
}


def _too_late(result: Result) -> Result:
    """The result of a call that was cancelled because its time was over, as a timeout."""
    status = _ENDED_BY_TIME.get(result.status)
    if status is None:
        return result
    return result._replace(status=status, message=refused(0, status).message)


# --- many ---


class Waiting(Exception):
    """Raised when there is no further id yet, and there may be one later."""


class Bulk:
    """A bulk run under way: its ids, its queue, and the results that wait to be handed out.

    Only `draw` starts deletions, and no more than can start at once, so a run that nobody draws
    from stops by itself.
    """

    def __init__(
        self, client: Owned, max_in_flight: int, interval: float, ids: Iterator[Any], sized: bool
    ) -> None:
        self._client = client
        self._max_in_flight = max_in_flight
        self._interval = interval
        self._due = 0.0
        self._ids: Iterator[Any] | None = ids
        self._sized = sized
        self._drawn = 0
        self._under_way = 0
        self._ready: deque[Result] = deque()
        self._tag = next_tag()
        self._cancelled = False
        self._queue: Queue | None = borrow()
        self.failure: Exception | None = None
        self.fd: int = self._queue.fd

    @property
    def ahead(self) -> int:
        """The number of ids that were drawn and whose results were not handed out yet."""
        return self._under_way + len(self._ready)

    @property
    def is_ready(self) -> bool:
        """Whether a result waits to be handed out."""
        return bool(self._ready)

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` has been called."""
        return self._cancelled

    @property
    def is_over(self) -> bool:
        """Whether the results of all ids have been handed out."""
        return self._ids is None and not self._under_way and not self._ready

    @property
    def inherited(self) -> bool:
        """Whether the run was begun before a fork."""
        return self._queue is not None and self._queue.inherited

    def draw(self, handed_out: int = 0) -> float | None:
        """Draws ids and submits them while fewer than ``max_in_flight`` are under way.

        Returns the seconds after which more can be drawn; ``None`` when that depends on results,
        or on ids that have not come yet.
        """
        spent = 0.0
        while self._ids is not None and self.ahead < self._max_in_flight + handed_out:
            now = monotonic()
            if self._interval and not self._cancelled:
                if now < self._due:
                    return self._due - now
                self._due = max(self._due, now - _CATCHING_UP) + self._interval
            try:
                value = next(self._ids)
                spent += monotonic() - now
                self._submit(value)
            except StopIteration:
                self._ids = None
            except Waiting:
                return None
            except Exception as error:
                self.failure = error
                self._ids = None
            if spent > PATIENCE and self._ids is not None:
                return 0.0
        return None

    def _submit(self, value: Any) -> None:
        if type(value) is not int:
            value = integer(f"ids[{self._drawn}]", value)
        self._drawn += 1
        if self._cancelled:
            self._ready.append(refused(value, _abi.Status.CANCELLED))
            return
        if not fits(value):
            self._ready.append(_refused_by_the_library(self._client, value))
            return
        queue = self._open()
        # Counted first: an interrupt between the two lines must not leave a queue in the pool
        # that still owes a result.
        self._under_way += 1
        status = queue.submit(self._client, value, self._tag)
        if status:
            self._under_way -= 1
            self._ready.append(refused(value, status))
        elif self._cancelled:
            # Another thread cancelled between the check and the submission.
            queue.cancel(self._tag)

    def collect(self) -> None:
        """Takes the results that the queue has; waits only for those of cancelled deletions."""
        if not self._under_way:
            return
        taken = self._open().take(SETTLING_MS if self._cancelled else 0)
        self._ready.extend([result for _, result in taken])
        if self._cancelled and not taken:
            # An interrupt came between counting a submission and making it.
            self._under_way = 0
        else:
            self._under_way -= len(taken)

    def wait(self, seconds: float | None) -> None:
        """Waits until there is something to collect."""
        if not self._cancelled:
            self._open().wait(seconds)

    def settle(self) -> None:
        """Cancels, and collects the results of what was under way."""
        self.cancel()
        while self._under_way:
            self.collect()

    def next_result(self) -> Result:
        """Hands out a result that is ready, and starts further deletions."""
        self.draw(1)
        return self._ready.popleft()

    def cancel(self) -> None:
        """Cancels what is under way; nothing starts after that. Callable from any thread."""
        if not self._cancelled:
            self._cancelled = True
            if not self._sized:
                self._ids = None
        queue = self._queue
        if queue is not None:
            queue.cancel(self._tag)

    def raise_failure(self) -> None:
        """Raises, once, the error that the ids' iterable ended with."""
        failure, self.failure = self.failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                # Without this the error's traceback would hold the error: a reference cycle.
                del failure

    def close(self) -> None:
        """Ends the run: cancels what is still under way; its results are lost."""
        queue, self._queue = self._queue, None
        self._ids = None
        if queue is None:
            return
        if self._under_way:
            if not queue.inherited:
                queue.cancel(self._tag)
            queue.close()
        else:
            give_back(queue)
        self._under_way = 0
        self._ready.clear()

    def _open(self) -> Queue:
        queue = self._queue
        if queue is None:
            raise RuntimeError("this run is closed")
        queue.refuse_if_inherited()
        return queue


# --- ids ---


def integer(name: str, value: SupportsIndex) -> int:
    """Converts an integer of any library, such as numpy's."""
    # True is an int in Python, and a mistake as a number.
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, not {type(value).__name__} ({repr(value)[:80]})")
    return int(value.__index__())


def fits(id_instance: int) -> bool:
    """Whether an int64_t can hold the id; the library decides whether the id is in range."""
    return -(2**63) <= id_instance < 2**63


def _refused_by_the_library(client: Owned, id_instance: int) -> Result:
    """The library's result for an id beyond int64_t: the one for the nearest int64_t."""
    nearest = 2**63 - 1 if id_instance > 0 else -(2**63)
    result = delete_one(client, nearest)
    message = result.message.replace(str(nearest), str(id_instance))
    return result._replace(id_instance=id_instance, message=message)
