"""The ownership of C objects: one close and one finalizer for all of them."""

from __future__ import annotations

from ._abi import Pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, NoReturn


class Owned:
    """One C object, freed when the last reference to this owner is gone.

    It is made before its C object, which the library then writes into ``pointer``.

    A thread that calls into the library keeps a reference for the time of the call. So one thread
    may close while another calls without a lock, which a fork could leave held for ever.
    """

    __slots__ = ("_free", "pointer")

    def __init__(self, free: Callable[[int], None]) -> None:
        self._free = free
        self.pointer: Pointer = Pointer()

    def __del__(self) -> None:
        # A signal handler's exception may have ended the constructor.
        pointer = getattr(self, "pointer", None)
        if pointer:
            # The garbage collector ends the members of a cycle in any order: a coroutine that is
            # closed later must find NULL, which every C function accepts, and no freed pointer.
            address, pointer.value = pointer.value, None
            self._free(address)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a C object cannot be copied or pickled")


class Single:
    """Base of the classes whose objects have no copies: two of them would share one run."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} objects cannot be copied or pickled")


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
