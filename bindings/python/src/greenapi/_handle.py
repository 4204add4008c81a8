"""The ownership of C objects: one close and one finalizer for all of them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, NoReturn


class Owned:
    """One C object, freed when the last reference to this owner is gone.

    A thread that calls into the library keeps a reference for the time of the call. So one thread
    may close while another calls without a lock, which a fork could leave held for ever.
    """

    __slots__ = ("_free", "pointer")

    def __init__(self, pointer: int, free: Callable[[int], None]) -> None:
        self.pointer: int = pointer
        self._free = free

    def __del__(self) -> None:
        # The garbage collector ends the members of a cycle in any order: a coroutine that is closed
        # later must find NULL, which every C function accepts, and not the freed pointer.
        pointer, self.pointer = self.pointer, 0
        if pointer:
            self._free(pointer)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a C object cannot be copied or pickled")


class Handle:
    """Base of the classes that own a C object."""

    _owned: Owned | None = None

    def close(self) -> None:
        """Frees the C object; closing again has no effect. Callable from any thread."""
        self._owned = None

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._owned is None

    def __reduce__(self) -> NoReturn:
        # A copied pointer would be freed twice, and is invalid in another process.
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled: make one in each process "
            "(one that exists before a fork works in the child as it is)"
        )

    def _open(self) -> Owned:
        """The C object, for the time of a call."""
        owned = self._owned
        if owned is None:
            raise RuntimeError(f"this {type(self).__name__} is closed: make a new one")
        return owned
