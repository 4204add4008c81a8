"""An exception at any step of the package's code, as a signal handler raises it."""

import dis
import inspect
import os
import sys
from types import FrameType, TracebackType
from typing import Any, Callable, Optional

import greenapi

PACKAGE = os.path.dirname(greenapi.__file__)


class Interrupt(Exception):
    """What the signal handler raises; many programs' are an ``Exception``, as Celery's is."""


class HardInterrupt(BaseException):
    """What the signal handler raises, as ``KeyboardInterrupt``."""


def raising(kind: type[BaseException]) -> Callable[[], None]:
    def act() -> None:
        raise kind

    return act


class At:
    """Calls a function once, which may raise, when the package's code has made so many steps.

    A step is a place where CPython runs signal handlers since 3.11: the beginning of a function,
    and the return from a call of C code, when the value returned is stored nowhere yet. (Where a
    coroutine goes on is one too, but there the caller's own coroutines get the exception first.)
    """

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.place: Optional[str] = None
        self._left = step
        self._act = act
        self._in_python = False

    def __enter__(self) -> "At":
        sys.settrace(self._call)
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, _event: str, _: Any) -> Any:
        code = frame.f_code
        # Python calls a generator by C code.
        self._in_python = not code.co_flags & inspect.CO_GENERATOR
        # Python itself swallows what is raised in a finalizer.
        if os.path.dirname(code.co_filename) != PACKAGE or code.co_name == "__del__":
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if not code.co_flags & inspect.CO_COROUTINE:
            self._step(frame)
        called = False

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal called
            if event == "opcode":
                name = dis.opname[code.co_code[frame.f_lasti]]
                if called and not self._in_python:
                    self._step(frame)
                called = name.startswith("CALL")
                self._in_python = self._in_python and not called
            return trace

        return trace

    def _step(self, frame: FrameType) -> None:
        self._left -= 1
        if self._left == 0:
            sys.settrace(None)
            self.place = f"{frame.f_code.co_name}:{frame.f_lineno}"
            self._act()
