"""Runs ``celery_fleet.py`` with a real Redis, real workers and the stand-in of the API.

    GREENAPI_STANDIN=… GREENAPI_LIBRARY=… python check_celery_fleet.py

Deletes 600 instances with four worker processes at 300 a second, kills one of the processes in
the middle, runs the list again, and holds every report against the stand-in's ledger. Needs
redis-server and the packages of ``requirements-test.txt``.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from standin import Standin  # noqa: E402

COUNT = 600
RATE = 300


@contextlib.contextmanager
def running(command: list[str], **more: object) -> Iterator["subprocess.Popen[str]"]:
    """A program that is asked to end when the block does."""
    with subprocess.Popen(command, text=True, **more) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def redis_server(directory: str) -> Iterator[str]:
    """A Redis of our own; gives its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""]
    with running(["redis-server", *options], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ready to accept connections" in line:
                break
        else:
            sys.exit("redis-server did not start")
        yield f"redis://127.0.0.1:{port}/0"


def fleet(environment: dict[str, str], ids: Path) -> "subprocess.Popen[str]":
    """Starts the list."""
    command = [sys.executable, str(HERE / "celery_fleet.py"), str(ids)]
    # The one that spreads the ids needs no token.
    environment = {name: value for name, value in environment.items() if name != "GREENAPI_TOKEN"}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def end(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Waits for the end of a run."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for_log(log: Path, pattern: str, worker: "subprocess.Popen[str]") -> "re.Match[str]":
    """Waits for a line of the worker's log."""
    limit = time.monotonic() + 60
    while True:
        found = re.search(pattern, log.read_text())
        if found:
            return found
        if worker.poll() is not None or time.monotonic() > limit:
            sys.exit(f"the worker did not log {pattern!r}:\n{log.read_text()}")
        time.sleep(0.05)


def fastest_second(arrivals: list[dict[str, int]]) -> int:
    """The most requests that arrived within any second."""
    times = sorted(row["at_ms"] for row in arrivals)
    first = most = 0
    for last, at_ms in enumerate(times):
        while times[first] <= at_ms - 1000:
            first += 1
        most = max(most, last - first + 1)
    return most


def check(standin: Standin, directory: str, url: str) -> None:
    """The runs, one after the other, and what each must report."""
    environment = standin.environment(FLEET_REDIS=url, FLEET_RATE=str(RATE))
    ids = standin.instances(COUNT)
    file = Path(directory) / "ids.txt"
    file.write_text("\n".join(map(str, ids)))
    log = Path(directory) / "worker.log"
    worker_command = [
        *(sys.executable, "-m", "celery", "-A", "celery_fleet", "worker"),
        *("--concurrency", "4", "--loglevel", "INFO", "--logfile", str(log)),
    ]
    log.touch()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with running(worker_command, env=environment, cwd=HERE, **quiet) as worker:
        wait_for_log(log, "ready", worker)
        run = fleet(environment, file)
        standin.wait(received=COUNT // 4)
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        code, out, err = end(run)
        assert code == 0, (code, out, err)
        assert f"{COUNT} gone, 0 not deleted, 0 unknown" in err, err
        assert standin.deleted() == set(ids)
        rate = fastest_second(standin.arrivals())
        # What arrives at once by the machine's own hiccups is no fault of the pace.
        assert RATE * 0.5 < rate < RATE * 1.2, rate
        print(f"{COUNT} deleted across 4 processes, one of them killed; at most {rate} a second")

        received = standin.stats()["received"]
        code, out, err = end(fleet(environment, file))
        assert code == 0, (code, out, err)
        assert standin.stats()["received"] == received
        print("run again: nothing was sent")

        # What nobody may delete, and what never existed, is reported as such.
        standin.rule({"id": ids[0], "fault": {"status": 403}})
        store = redis.Redis.from_url(url)
        store.hdel("greenapi:run:results", str(ids[0]))
        file.write_text(f"{ids[0]}\n{ids[-1] + 1}\n{ids[1]}\n")
        code, out, err = end(fleet(environment, file))
        assert code == 1, (code, out, err)
        assert f"{ids[0]} FORBIDDEN: " in out, out
        assert f"{ids[-1] + 1} NOT_FOUND: " in out, out
        assert "1 gone, 2 not deleted, 0 unknown" in err, err
        print("failures are reported")

        keys = [store.dump(key) or b"" for key in store.scan_iter()]
        assert not any(standin.token.encode() in value for value in keys)
    text = log.read_text()
    assert standin.token not in text
    assert standin.deleted() == set(ids)


def main() -> None:
    """Starts the stand-in and Redis, and runs the checks."""
    program = os.environ.get("GREENAPI_STANDIN")
    if not program:
        sys.exit("set GREENAPI_STANDIN to the path of the stand-in's program")
    standin = Standin(program)
    try:
        with tempfile.TemporaryDirectory() as directory, redis_server(directory) as url:
            check(standin, directory, url)
    finally:
        standin.stop()


if __name__ == "__main__":
    main()
