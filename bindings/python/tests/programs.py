"""Programs of their own, for what can only be seen from outside of a process."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

# Long enough for a busy machine; a program that hangs is ended by it and fails its test.
PATIENCE = 60


@contextlib.contextmanager
def program(
    source: str, environment: dict[str, str], *arguments: str, **more: Any
) -> Iterator["subprocess.Popen[str]"]:
    """Starts Python with this source; ends it if the test did not."""
    command = [sys.executable, "-c", source, *arguments]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    with subprocess.Popen(command, env=environment, text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Waits for the end; returns the exit status and the outputs."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def run(source: str, environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Runs Python with this source to its end."""
    with program(source, environment, *arguments) as process:
        return finish(process)
