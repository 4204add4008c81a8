"""Ctrl-C and other signals while a call waits."""

import signal
import time

import pytest

from programs import INTERRUPTIBLE, finish, not_on_windows, press_ctrl_c, program, run
from standin import Standin

PRELUDE = f"""{INTERRUPTIBLE}
import asyncio, os, sys, threading
import greenapi
url, token = os.environ["GREENAPI_URL"], os.environ["GREENAPI_TOKEN"]
ids = [int(one) for one in sys.argv[1:]]
client = greenapi.Client(url, token)
"""

INTERRUPTED = """
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    # The process lives on, so that the end of the connection is the cancellation's doing.
    sys.stdin.read()
"""

CALLS = {
    "one call": "greenapi.delete_instance(url, token, ids[0])",
    "client": "client.delete_instance(ids[0])",
    "bulk": "list(client.delete_instances(ids))",
    "async": "asyncio.run(greenapi.AsyncClient(url, token).delete_instance(ids[0]))",
}


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_ends_the_call_and_cancels_the_request(standin: Standin, call: str) -> None:
    ids = standin.instances(3 if call == "bulk" else 1)
    standin.hold()
    source = PRELUDE + INTERRUPTED.format(call=CALLS[call])
    arguments = [str(one) for one in ids]
    with program(source, standin.environment(), *arguments, stdin=-1) as process:
        standin.wait(held=len(ids))
        pressed = time.monotonic()
        press_ctrl_c(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "interrupted\n"
        # The deadline is 30 seconds away: only the signal can have ended the wait.
        assert time.monotonic() - pressed < 5
        standin.wait(open=0)
        standin.release()
        assert finish(process) == (0, "", "")
    assert standin.deleted() == set()


def test_client_works_after_ctrl_c(standin: Standin) -> None:
    ids = standin.instances(2)
    standin.rule({"id": ids[0], "fault": {"hold": True}})
    source = (
        PRELUDE
        + """
try:
    client.delete_instance(ids[0])
except KeyboardInterrupt:
    print(client.delete_instance(ids[1]).status.name)
"""
    )
    with program(source, standin.environment(), *map(str, ids), stdin=-1) as process:
        standin.wait(held=1)
        press_ctrl_c(process)
        assert finish(process) == (0, "OK\n", "")
    standin.release()
    assert standin.deleted() == {ids[1]}


@not_on_windows
def test_handlers_run_while_a_call_waits(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    standin.hold()
    source = (
        PRELUDE
        + """
import signal
def handler(number, frame):
    # Not print: the next signal may come before it has returned.
    os.write(1, f"handler in {threading.current_thread().name}\\n".encode())
signal.signal(signal.SIGUSR1, handler)
print(client.delete_instance(ids[0]).status.name, flush=True)
"""
    )
    with program(source, standin.environment(), str(id_instance)) as process:
        standin.wait(held=1)
        assert process.stdout is not None
        for _ in range(3):
            process.send_signal(signal.SIGUSR1)
            assert process.stdout.readline() == "handler in MainThread\n"
        standin.release()
        assert finish(process) == (0, "OK\n", "")


@not_on_windows
def test_handler_may_call_the_library(standin: Standin) -> None:
    ids = standin.instances(2)
    standin.rule({"id": ids[0], "fault": {"hold": True}})
    source = (
        PRELUDE
        + """
import signal
def handler(number, frame):
    print("inner", client.delete_instance(ids[1]).status.name, flush=True)
signal.signal(signal.SIGUSR1, handler)
print("outer", client.delete_instance(ids[0]).status.name, flush=True)
"""
    )
    with program(source, standin.environment(), *map(str, ids)) as process:
        standin.wait(held=1)
        process.send_signal(signal.SIGUSR1)
        assert process.stdout is not None
        assert process.stdout.readline() == "inner OK\n"
        standin.release()
        assert finish(process) == (0, "outer OK\n", "")


def test_dispositions_are_not_changed(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    source = (
        PRELUDE
        + """
import signal
before = {one: signal.getsignal(one) for one in signal.valid_signals()}
masks = hasattr(signal, "pthread_sigmask")
mask = masks and signal.pthread_sigmask(signal.SIG_BLOCK, [])
client.delete_instance(ids[0])
assert before == {one: signal.getsignal(one) for one in signal.valid_signals()}
assert mask == (masks and signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""
    )
    assert run(source, standin.environment(), str(id_instance)) == (0, "", "")
