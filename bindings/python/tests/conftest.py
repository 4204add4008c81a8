import os
from collections.abc import Iterator

import pytest

import greenapi
from standin import Standin


@pytest.fixture
def standin() -> Iterator[Standin]:
    """A stand-in for this test alone, so that every connection to it is the test's own."""
    program = os.environ.get("GREENAPI_STANDIN")
    if not program:
        pytest.exit(
            "set GREENAPI_STANDIN to the path of the stand-in's program "
            "(cargo build -p greenapi-standin makes it)",
            returncode=2,
        )
    running = Standin(program)
    yield running
    running.stop()


@pytest.fixture
def client(standin: Standin) -> Iterator[greenapi.Client]:
    """A client of the stand-in that does not retry, so that every fault shows."""
    with greenapi.Client(standin.url, standin.token, max_retries=0) as made:
        yield made
