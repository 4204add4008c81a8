"""What a Python programmer expects without looking it up."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import greenapi
from greenapi import Effect, Status, _errors
from programs import not_on_windows, run
from standin import Standin


def test_statuses_print_as_their_names() -> None:
    status = Status.NOT_FOUND
    assert (str(status), f"{status}", f"{status:>10}") == ("NOT_FOUND", "NOT_FOUND", " NOT_FOUND")
    assert (f"{status:d}", f"{status:04d}", status + 1) == ("10", "0010", 11)
    assert (str(Status(17)), str(Effect.UNKNOWN)) == ("STATUS_17", "UNKNOWN")
    assert json.dumps(status) == "10"


def test_a_result_as_a_dict() -> None:
    result = greenapi.Result(7, Status.TIMEOUT, 0, 200, 1, "late")
    assert json.loads(json.dumps(result.as_dict())) == {
        "id_instance": 7,
        "status": "TIMEOUT",
        "effect": "unknown",
        "code": 0,
        "http_status": 200,
        "attempts": 1,
        "message": "late",
    }


@not_on_windows
def test_numpy(standin: Standin) -> None:
    import numpy as np

    ids = np.array(standin.instances(4))
    with greenapi.Client(
        standin.url,
        standin.token,
        timeout=np.int64(20),
        connect_timeout=np.float32(2.5),  # type: ignore[arg-type]
        max_retries=np.uint8(1),
        max_in_flight=np.int32(2),
        requests_per_second=np.int64(1000),
    ) as client:
        result = client.delete_instance(ids[0])
        results = list(client.delete_instances(ids[1:]))
    for one in (result, *results):
        assert one.ok
        assert type(one.id_instance) is int
    assert standin.deleted() == set(ids.tolist())


@pytest.mark.parametrize(
    "token", [" gac.5ecre7", "gac.5ecre7 ", "gac.5ecre7\n", "\u00a0gac.5ecre7"]
)
def test_a_token_with_space_around_it(standin: Standin, token: str) -> None:
    with pytest.raises(greenapi.InvalidArgument, match="token") as caught:
        greenapi.Client(standin.url, token)
    assert "5ecre7" not in str(caught.value)


def test_with_on_an_async_client(standin: Standin) -> None:
    client: Any = greenapi.AsyncClient(standin.url, standin.token)
    assert repr(client) == f"<greenapi.AsyncClient {standin.url} open>"
    with pytest.raises(TypeError, match="'async with'"):  # noqa: SIM117
        with client:
            pass


PATCHED = {
    "eventlet": """
import eventlet as green
from eventlet import GreenPool as Pool
green.monkey_patch()
""",
    "gevent": """
import gevent.monkey
gevent.monkey.patch_all()
import gevent as green
from gevent.pool import Pool
""",
}

PATCHED_PROGRAM = """
import os, sys, time
import greenapi
ids = [int(one) for one in sys.argv[1:]]
client = greenapi.Client(os.environ["GREENAPI_URL"], os.environ["GREENAPI_TOKEN"])
ticks = []
def tick():
    while True:
        ticks.append(1)
        green.sleep(0.001)
green.spawn(tick)
pool = Pool(20)
assert all(result.ok for result in pool.imap(client.delete_instance, ids[:20]))
assert all(result.ok for result in client.delete_instances(ids[20:]))
print(len(ticks) > 1)
"""


@not_on_windows
@pytest.mark.parametrize("patch", PATCHED)
def test_monkey_patched(standin: Standin, patch: str) -> None:
    ids = standin.instances(60)
    standin.fault(delay_ms=5)
    code, out, err = run(PATCHED[patch] + PATCHED_PROGRAM, standin.environment(), *map(str, ids))
    assert (code, out) == (0, "True\n"), err
    assert standin.deleted() == set(ids)


# --- the library's messages name options as C does ---


def test_every_option_of_c_has_its_name_in_python() -> None:
    """The rule for names holds for every field and flag of the header."""
    header = (Path(__file__).parents[3] / "include" / "greenapi.h").read_text()
    found = re.search(
        r"typedef struct greenapi_options \{(.*?)\n\} greenapi_options;", header, re.DOTALL
    )
    assert found is not None
    names = re.findall(r"^  [a-z][\w *]*?(\w+);$", found[1], re.MULTILINE)
    flags = re.findall(r"#define (GREENAPI_FLAG_\w+)", header)
    assert len(names) >= 13
    assert flags
    keywords = set(greenapi.Client.__init__.__kwdefaults__ or ())
    for name in {*names, *flags} - {"size", "flags"}:
        keyword = _errors._in_python(f"{name} is wrong: correct it.").split()[0]
        assert keyword.removesuffix("=True") in keywords, name


def test_a_wrong_keyword_names_the_class_that_was_called(standin: Standin) -> None:
    with pytest.raises(TypeError, match=r"__init__\(\) got an unexpected .* 'timout'") as caught:
        greenapi.Client(standin.url, standin.token, timout=3)  # type: ignore[call-arg]
    assert "BaseClient" not in str(caught.value)


def test_messages_speak_python(standin: Standin) -> None:
    for arguments, expected in (
        ({"timeout": 0}, "timeout is 0.0 seconds"),
        ({"url": "http://example.com"}, "allow_http=True"),
        ({"max_in_flight": 0}, "max_in_flight is 0"),
    ):
        with pytest.raises(greenapi.InvalidArgument) as caught:
            greenapi.Client(**{"url": standin.url, "token": "t", **arguments})  # type: ignore[arg-type]
        assert expected in str(caught.value)
        assert "GREENAPI" not in str(caught.value)
        assert "_ms" not in str(caught.value)
