"""Child programs, for behaviour that only shows from outside of a process."""

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, Optional

import pytest

WINDOWS = sys.platform == "win32"

not_on_windows = pytest.mark.skipif(WINDOWS, reason="needs what only Unix has")


def _trio_runs() -> bool:
    if WINDOWS:
        import trio

        try:
            trio.run(trio.sleep, 0)
        except OSError:
            return False
    return True


needs_trio = pytest.mark.skipif(not _trio_runs(), reason="trio does not run under Wine")

# At the start of a program that `press_ctrl_c` is for.
INTERRUPTIBLE = (
    """
import _thread, os, threading
def press():
    if os.read(0, 1):
        _thread.interrupt_main()
threading.Thread(target=press, daemon=True).start()
"""
    if WINDOWS
    else ""
)

# Long enough for a busy machine; a program that hangs is killed then and fails its test.
PATIENCE = 60


@contextlib.contextmanager
def start(
    command: list[str], environment: dict[str, str], **more: Any
) -> Iterator["subprocess.Popen[str]"]:
    """Starts a command; ends it if the test did not, and when the test has waited too long."""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    with subprocess.Popen(command, env=environment, text=True, **streams) as process:
        # A test that waits for output of the killed program then reads the end instead.
        watch = threading.Timer(PATIENCE, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            watch.join()
            process.kill()


def program(
    source: str, environment: dict[str, str], *arguments: str, **more: Any
) -> "contextlib.AbstractContextManager[subprocess.Popen[str]]":
    """Starts Python with this source, as `start` does."""
    return start([sys.executable, "-c", source, *arguments], environment, **more)


def press_ctrl_c(process: "subprocess.Popen[str]") -> None:
    """Interrupts a program that begins with `INTERRUPTIBLE`, whose standard input is a pipe."""
    if not WINDOWS:
        process.send_signal(signal.SIGINT)
        return
    # A program can press Ctrl-C only in its own console, for all programs there.
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def finish(process: "subprocess.Popen[str]", stdin: Optional[str] = None) -> tuple[int, str, str]:
    """Waits for the end; returns the exit status and the outputs."""
    out, err = process.communicate(stdin, timeout=PATIENCE)
    return process.returncode, out, err


def run(
    source: str, environment: dict[str, str], *arguments: str, stdin: Optional[str] = None
) -> tuple[int, str, str]:
    """Runs Python with this source to its end."""
    more = {} if stdin is None else {"stdin": subprocess.PIPE}
    with program(source, environment, *arguments, **more) as process:
        return finish(process, stdin)
