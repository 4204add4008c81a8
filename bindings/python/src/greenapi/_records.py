"""``typing.NamedTuple`` at run time, without ``typing``, whose import would cost the most."""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _FromAnnotations(type):
    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        if not bases:
            return super().__new__(cls, name, bases, namespace)
        fields = namedtuple(name, list(namespace["__annotations__"]))  # type: ignore[misc]
        return type(name, (fields,), {"__slots__": (), **namespace})


class NamedTuple(metaclass=_FromAnnotations):
    """Turns a subclass into a named tuple whose fields are the names that the class annotates.

    The module of the subclass needs ``from __future__ import annotations``.
    """
