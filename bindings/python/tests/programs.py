"""Child programs, for behaviour that only shows from outside of a process."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

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


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Waits for the end; returns the exit status and the outputs."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def run(source: str, environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Runs Python with this source to its end."""
    with program(source, environment, *arguments) as process:
        return finish(process)
