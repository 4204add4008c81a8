"""Queues: how Python waits for the library without blocking inside it.

Every wait of this package, blocking or async, is a submission to a queue and then a wait for
the queue's descriptor in Python's own hands, where signal handlers run and event loops turn.

A queue has one user at a time, who borrows it from a pool and returns it when nothing is under
way in it. A user that leaves early cancels the rest by a statement, not by a finalizer, and then
has the results of the rest at once.

A signal handler runs between any two steps of this code, and may raise. So what the library hands
over is stored in the same step, a call of C code that calls the library (`map`), and what happens
in two steps can be told from what is stored.
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
from ._errors import Error, Result, error_class, is_of, refused, remember, result_of
from ._handle import Handle, Owned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, SupportsIndex

PATIENCE = 0.005
"""Seconds that an iterable may take for its ids before results are collected: a slow one (a
database, a pace of its own) must not hold back completed results."""

SETTLING_MS = 2000
"""How long to wait for the results of cancelled deletions. They come within a millisecond; with a
journal when their records are written, and within a second if its disk hangs. So event loops may
wait for them too; the limit guards against a library that has stopped."""

_GRACE = 0.25
"""Seconds after a blocking call's timeout in which the library itself ends a call whose request
was started at once, even on a busy machine: a call that found no connection must not be reported
as one whose turn did not come."""

_CATCHING_UP = 0.1
"""Seconds by which a pace may lag and still catch up."""

_TURN = 0.1
"""Seconds after which a wait ends that nothing else may end: on Windows Ctrl-C ends none, and a
cancellation ends none where no result is due."""

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

    def __init__(self, owned: Owned, fd: int) -> None:
        self._owned = owned
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
            poll = poll_type()
            poll.register(self.fd, select.POLLIN)
            self._poll = poll
            # Last, because a signal handler may raise between any two of these lines.
            self._poll_type = poll_type
        self._poll.poll(None if seconds is None else ceil(seconds * 1000))


class Queue(Waitable):
    """A ``greenapi_queue`` with a buffer for a batch of its results.

    Raises:
        OutOfResources: no descriptor or memory is left.
    """

    def __init__(self) -> None:
        owned = Owned(_abi.queue_free)
        status = _abi.queue_new(owned.pointer)
        if not owned.pointer:
            result = refused(0, status)
            raise error_class(result.status)(result)
        super().__init__(owned, _abi.queue_fd(owned.pointer))
        self._results = _abi.results(_BATCH)

    def submit(self, statuses: list[Any], client: Owned, id_instance: int, tag: int) -> None:
        """Submits a deletion, and appends a status. A result follows exactly when that is 0."""
        queue = self._open().pointer
        submit = _abi.queue_submit
        statuses.extend(map(submit, (queue,), (client.pointer,), (id_instance,), (tag,)))

    def cancel(self, tag: int) -> None:
        """Cancels the submissions with this tag; their results come like all others."""
        owned = self._owned
        if owned is not None:
            _abi.queue_cancel(owned.pointer, tag)

    def take(self, rows: deque[Any], wait_ms: int = 0) -> int:
        """Appends the results that wait, a batch at most; returns how many these are.

        Waits up to ``wait_ms`` for the first one, without running signal handlers; returns at once
        when nothing is under way.
        """
        before = len(rows)
        self._results.take(rows, self._open().pointer, wait_ms)
        return len(rows) - before


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

    Raises:
        Error: the instance is not known to be gone.
    """
    if not fits(id_instance):
        return _refused_by_the_library(client, id_instance).raise_for_status()
    queue = borrow()
    end = None if timeout is None else monotonic() + timeout + _GRACE
    statuses: list[int] = []
    rows: deque[_abi.Row] = deque()
    late = is_back = False
    result = None
    try:
        queue.submit(statuses, client, id_instance, 0)
        while not statuses[0] and not rows:
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                queue.cancel(0)
                late, end, left = True, None, None
            queue.wait(left)
            queue.take(rows)
        result = result_of(rows[0]) if rows else refused(id_instance, statuses[0])
        if late:
            result = _too_late(result)
        # First, because a queue that is in the pool already must not be closed.
        is_back = True
        give_back(queue)
        return result.raise_for_status()
    except BaseException as error:
        if result is None:
            status = statuses[0] if statuses else _abi.Status.CANCELLED
            if not status and not rows:
                queue.cancel(0)
                queue.take(rows, SETTLING_MS)
            if status or rows:
                result = refused(id_instance, status) if status else result_of(rows[0])
        if result is not None and not is_of(error, result):
            remember(error, result)
        if not is_back:
            queue.close()
        raise


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
        # What is known of the id that was drawn last, until it is counted: nothing, the id, or the
        # id and what its submission gave: a status, or a result in the place of a submission.
        self._latest: list[Any] = []
        # The library's results, and those of ids that were not submitted.
        self._ready: deque[_abi.Row | Result] = deque()
        self.handed_out: _abi.Row | Result | None = None
        """What `next_result` handed out; to be reset when that has reached the caller."""
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
        latest = self._latest
        if latest:
            # A signal handler's exception ended the last call.
            self.cancel()
            self._submit(resumed=True)
        spent = 0.0
        while self.ahead < self._max_in_flight + handed_out:
            # `cancel` in another thread or a signal handler may take the ids away.
            ids = self._ids
            if ids is None:
                break
            now = monotonic()
            if self._interval and not self._cancelled:
                if now < self._due:
                    pause = self._due - now
                    return pause if self._under_way else min(pause, _TURN)
                self._due = max(self._due, now - _CATCHING_UP) + self._interval
            draw_one, one = latest.extend, map(next, (ids,), _END)
            try:
                draw_one(one)
            except Waiting:
                return None
            except Exception as error:
                if latest:
                    # A signal handler's: the iterable has given an id.
                    raise
                self._fail(error)
                break
            spent += monotonic() - now
            self._submit()
            if spent > PATIENCE and self._ids is not None:
                return 0.0
        return None

    def _submit(self, resumed: bool = False) -> None:
        """Submits the latest id, or goes on where an exception ended this."""
        latest = self._latest
        value = latest[0]
        if type(value) is not int:
            if value is _END[0]:
                self._ids = None
                latest.clear()
                return
            try:
                value = latest[0] = integer(f"ids[{self._drawn}]", value)
            except Exception as error:
                self._fail(error)
                latest.clear()
                return
        if len(latest) == 1:
            if self._cancelled:
                latest.append(refused(value, _abi.Status.CANCELLED))
            elif not fits(value):
                latest.append(_refused_by_the_library(self._client, value))
            else:
                queue = self._open()
                # Counted first: after an exception it may be counted without being under way, which
                # `collect` sees, but not the other way round, as its queue would go to the pool.
                self._under_way += 1
                queue.submit(latest, self._client, value, self._tag)
        outcome = latest[1]
        if outcome == 0:
            if self._cancelled:
                # Another thread may have cancelled between the check and the submission.
                self.cancel()
        else:
            if not isinstance(outcome, Result):
                outcome = latest[1] = refused(value, outcome)
                self._under_way -= 1
            # `settle` may have put other results behind it since the exception.
            if not (resumed and any(one is outcome for one in self._ready)):
                self._ready.append(outcome)
        self._drawn += 1
        latest.clear()

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self._ids = None

    def collect(self) -> None:
        """Takes the results that the queue has; waits only for those of cancelled deletions."""
        if not self._under_way:
            return
        cancelled = self._cancelled
        taken = self._open().take(self._ready, SETTLING_MS if cancelled else 0)
        if cancelled and not taken:
            # A signal handler's exception came between counting and what was counted.
            self._under_way = 0
        else:
            self._under_way -= taken

    def wait(self, seconds: float | None) -> None:
        """Waits until there is something to collect."""
        if not self._cancelled:
            self._open().wait(seconds)

    def settle(self) -> None:
        """Cancels, and collects the results of what was under way."""
        self.cancel()
        while self._under_way:
            self.collect()
        # Converted here, because the conversion logs: perhaps nobody draws them.
        for index, one in enumerate(self._ready):
            if not isinstance(one, Result):
                self._ready[index] = result_of(one)

    def next_result(self) -> Result:
        """Hands out a result that is ready, and starts further deletions."""
        self.draw(1)
        ready = self._ready
        one = ready[0]
        result = one if isinstance(one, Result) else result_of(one)
        self.handed_out = one
        del ready[0]
        return result

    def interrupt(self) -> None:
        """Cancels after an exception, and takes back a result that did not reach the caller."""
        one, ready = self.handed_out, self._ready
        if one is not None and not (ready and ready[0] is one):
            ready.appendleft(one)
        self.cancel()

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
        self._latest.clear()
        self._ready.clear()

    def _open(self) -> Queue:
        queue = self._queue
        if queue is None:
            raise RuntimeError("this run is closed")
        queue.refuse_if_inherited()
        return queue


_END = (object(),)

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
    try:
        result = delete_one(client, nearest)
    except Error as error:
        result = error.result
    message = result.message.replace(str(nearest), str(id_instance))
    return result._replace(id_instance=id_instance, message=message)
