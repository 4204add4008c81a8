import os
import signal
import sys
from collections.abc import Iterator

import pytest

import greenapi
from standin import Standin

# A background process of a script ignores SIGINT, one under nohup SIGHUP, and so would its
# children: the tests of these signals would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32":
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())


@pytest.fixture
def standin() -> Iterator[Standin]:
    """A stand-in for one test, so that every connection to the stand-in is that test's."""
    program = os.environ.get("GREENAPI_STANDIN")
    if not program:
        pytest.skip(
            "set GREENAPI_STANDIN to the path of the stand-in's program "
            "(cargo build -p greenapi-standin, in greenapi's repository, makes it)"
        )
    running = Standin(program)
    yield running
    running.stop()


@pytest.fixture
def client(standin: Standin) -> Iterator[greenapi.Client]:
    """A client of the stand-in that does not retry, so that every fault shows."""
    with greenapi.Client(standin.url, standin.token, max_retries=0) as made:
        yield made
