"""Queues: how Python waits for the library without ever standing still inside it.

Every wait of this package, blocking or async, is a submission to a queue and then a wait for
the queue's descriptor in Python's own hands, where signal handlers run and event loops turn.

A queue has one user at a time: it is borrowed from a pool and given back when nothing is under
way in it. Closing it cancels whatever is left, so whoever leaves early closes it instead.
"""

import os
import select
from collections import deque
from itertools import count

from . import _abi
from ._errors import Result, error_class, refused, result_of
from ._handle import Handle, Owned

_BATCH = 64
"""Results taken in one call: enough to make the call's cost vanish, 16 KiB of room."""

_IDLE_MAX = 32
"""Idle queues kept; each holds a descriptor."""

_forks = 0
"""Forks between the start of the program and this process."""

next_tag = count(1).__next__
"""A tag that no other submission of this process has; callable from any thread."""


class Queue(Handle):
    """A ``greenapi_queue`` with room for a batch of its results.

    Raises:
        OutOfResources: no descriptor or memory is left for it.
    """

    def __init__(self) -> None:
        pointer, status = _abi.queue_new()
        if not pointer:
            result = refused(0, status)
            raise error_class(result.status)(result)
        self._owned = Owned(pointer, _abi.queue_free)
        self._results = _abi.Results(_BATCH)
        self._born = _forks
        self.fd = _abi.queue_fd(pointer)
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)

    @property
    def inherited(self) -> bool:
        """Whether it was made before a fork: what is under way in it belongs to the parent."""
        return self._born != _forks

    def submit(self, client: Owned, id_instance: int, tag: int) -> int:
        """Submits a deletion; returns a status, and a result follows exactly when it is 0."""
        return _abi.queue_submit(self._open().pointer, client.pointer, id_instance, tag)

    def cancel(self, tag: int) -> None:
        """Cancels the submissions with this tag; their results come like all others."""
        _abi.queue_cancel(self._open().pointer, tag)

    def wait(self) -> None:
        """Waits until there is a result to take. Signal handlers run, and may raise."""
        if self.inherited:
            raise RuntimeError(
                "these deletions belong to the parent process: start them again in this one"
            )
        self._poll.poll()

    def take(self) -> list[tuple[int, Result]]:
        """The results that are there, a batch at most, with their tags; does not wait."""
        return [(row[0], result_of(row)) for row in self._results.take(self._open().pointer)]


# List operations are atomic, so the pool needs no lock that a fork could leave held.
_idle: list[Queue] = []


def borrow() -> Queue:
    """An empty queue, for the caller alone."""
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


def delete_one(client: Owned, id_instance: int) -> Result:
    """Deletes one instance, waiting for it; leaving early by an exception cancels it."""
    queue = borrow()
    try:
        status = queue.submit(client, id_instance, 0)
        results: list[tuple[int, Result]] = []
        while status == 0 and not results:
            queue.wait()
            results = queue.take()
    except BaseException:
        queue.close()
        raise
    give_back(queue)
    return refused(id_instance, status) if status else results[0][1]


class Bulk:
    """A bulk run under way: a bounded number of ids submitted ahead of the results.

    ``window`` bounds the ids that were drawn and whose result was not handed out yet.
    """

    def __init__(self, client: Owned, window: int) -> None:
        self._client = client
        self._window = window
        self._ahead = 0
        self._ready: deque[Result] = deque()
        self.queue = borrow()

    @property
    def has_room(self) -> bool:
        """Whether another id may be drawn."""
        return self._ahead < self._window

    @property
    def is_empty(self) -> bool:
        """Whether every id drawn so far has had its result handed out."""
        return self._ahead == 0

    @property
    def is_ready(self) -> bool:
        """Whether a result is there to be handed out."""
        return bool(self._ready)

    def submit(self, id_instance: int) -> None:
        """Submits an id; one that is refused at once has its result ready."""
        number = checked_id(id_instance)
        # Counted first: an interrupt between the two lines must not leave a queue in the pool
        # that still owes a result.
        self._ahead += 1
        status = self.queue.submit(self._client, number, 0)
        if status:
            self._ready.append(refused(number, status))

    def collect(self) -> None:
        """Takes what the queue has; does not wait."""
        self._ready.extend(result for _, result in self.queue.take())

    def next_result(self) -> Result:
        """Hands out a result that is ready."""
        result = self._ready.popleft()
        self._ahead -= 1
        return result

    def close(self) -> None:
        """Ends the run; what is still under way is cancelled."""
        if self._ahead == len(self._ready):
            give_back(self.queue)
        else:
            self.queue.close()


def checked_id(id_instance: int) -> int:
    """An id as a 64-bit integer; whether it is one of an instance, the library decides."""
    if type(id_instance) is not int:
        id_instance = _index(id_instance)
    if not -(2**63) <= id_instance < 2**63:
        # What no 64-bit integer holds gets the library's own answer to what it refuses.
        result = refused(id_instance, _abi.Status.INVALID_ARGUMENT)
        raise error_class(result.status)(result)
    return id_instance


def _index(value: object) -> int:
    # True is an int to Python and never an id to anybody.
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"id_instance must be an int, not {type(value).__name__}")
    return int(value.__index__())
