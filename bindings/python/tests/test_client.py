"""The client and the one call: arguments, options, ownership, threads, the secret."""

import copy
import ctypes
import gc
import math
import pickle
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import greenapi
import programs
from greenapi import _abi, _queue
from greenapi._handle import Owned
from standin import Standin

TOKEN = "gac.5ecre7f00dbadcafe5ecre7"


def leaks(error: BaseException, secret: str) -> list[str]:
    """The places of the secret in an error, its causes and its frames inside the package."""
    found = []
    queue: list[BaseException] = [error]
    while queue:
        one = queue.pop()
        queue += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
        found += [f"{type(one).__name__}: {text}" for text in (str(one), repr(one), repr(vars(one)))
                  if secret in text]  # fmt: skip
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if "greenapi" not in Path(frame.f_code.co_filename).parts[-2:]:
                continue
            found += [
                f"{frame.f_code.co_name}: {name}"
                for name, value in frame.f_locals.items()
                if secret in repr(value)
            ]
    return found


def test_one_call(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    result = greenapi.delete_instance(standin.url, standin.token, id_instance)
    assert result.ok
    assert standin.deleted() == {id_instance}
    with pytest.raises(greenapi.NotFound) as caught:
        greenapi.delete_instance(standin.url, standin.token, id_instance)
    assert (caught.value.code, caught.value.id_instance) == (404, id_instance)
    with pytest.raises(greenapi.Unauthorized):
        greenapi.delete_instance(standin.url, TOKEN, id_instance)


def test_connections_are_kept_across_calls(standin: Standin) -> None:
    for id_instance in standin.instances(20):
        greenapi.delete_instance(standin.url, standin.token, id_instance)
    assert standin.stats()["connections"]["accepted"] == 1


# --- arguments ---

ONE_CALL = greenapi.delete_instance
BAD_TEXT = ["\0", "a\0b", "\ud800", "a\udfffb", "\udc80"]


@pytest.mark.parametrize("text", BAD_TEXT, ids=ascii)
@pytest.mark.parametrize("name", ["url", "token", "ca_file", "proxy", "user_agent"])
def test_text_that_c_cannot_take_is_refused(standin: Standin, name: str, text: str) -> None:
    arguments: dict[str, Any] = {"url": standin.url, "token": TOKEN}
    arguments[name] = arguments.get(name, "") + text
    for kind in (greenapi.Client, greenapi.AsyncClient):
        with pytest.raises(greenapi.InvalidArgument, match=name) as caught:
            kind(**arguments)
        assert caught.value.status is greenapi.Status.INVALID_ARGUMENT
        assert leaks(caught.value, TOKEN) == []
    assert standin.stats()["connections"]["accepted"] == 0


@pytest.mark.parametrize("value", [None, 1, b"text", ["text"]], ids=repr)
@pytest.mark.parametrize("name", ["url", "token"])
def test_text_must_be_str(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"url": "https://localhost", "token": TOKEN, name: value}
    with pytest.raises(TypeError, match=name):
        greenapi.Client(**arguments)


@pytest.mark.parametrize("value", [True, 1.0, "1", b"1", None, math.nan], ids=repr)
def test_ids_must_be_int(standin: Standin, client: greenapi.Client, value: Any) -> None:
    with pytest.raises(TypeError, match="id_instance must be an int"):
        client.delete_instance(value)
    with pytest.raises(TypeError, match=r"ids\[1\] must be an int, not .* \(.+\)"):
        list(client.delete_instances([0, value]))
    with pytest.raises(TypeError, match="id_instance must be an int"):
        greenapi.delete_instance(standin.url, standin.token, value)
    assert standin.stats()["connections"]["accepted"] == 0


@pytest.mark.parametrize("value", [0, -1, 10**10, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**30])
def test_ids_out_of_range(standin: Standin, client: greenapi.Client, value: int) -> None:
    with pytest.raises(greenapi.InvalidArgument) as caught:
        client.delete_instance(value)
    assert caught.value.id_instance == value
    with pytest.raises(ValueError, match=rf"{value}\D.*1 … 9999999999"):
        greenapi.delete_instance(standin.url, standin.token, value)
    assert standin.stats()["connections"]["accepted"] == 0


class Number:
    """An integer of another library, numpy's for one."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


def test_other_libraries_integers_are_ids(standin: Standin, client: greenapi.Client) -> None:
    [id_instance] = standin.instances(1)
    result = client.delete_instance(Number(id_instance))
    assert type(result.id_instance) is int
    assert standin.deleted() == {id_instance}


# --- options ---


def test_defaults_are_the_librarys() -> None:
    keywords = greenapi.Client.__init__.__kwdefaults__
    options = _abi.OptionsStruct()
    _abi._options_init(options, ctypes.sizeof(options))
    library = {field[0]: getattr(options, field[0]) for field in options._fields_}
    assert keywords == {
        "timeout": library["timeout_ms"] / 1000,
        "connect_timeout": library["connect_timeout_ms"] / 1000,
        "max_retries": library["max_retries"],
        "max_in_flight": library["max_in_flight"],
        "requests_per_second": library["requests_per_second"] or None,
        "session": _abi.Session(library["session"]).name.lower(),
        "allow_http": bool(library["flags"] & _abi.FLAG_ALLOW_HTTP),
        "ca_file": library["ca_file"],
        "proxy": library["proxy"],
        "user_agent": library["user_agent"],
        "ca_pem": library["ca_pem"],
        "instance_url": library["instance_url"],
        "journal": library["journal"],
    }


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", 0.0009),
        ("timeout", math.nan),
        ("timeout", math.inf),
        ("timeout", 10**400),
        ("timeout", 4294968),
        ("connect_timeout", 0.0),
        ("connect_timeout", 1e-9),
        ("connect_timeout", -0.5),
        ("max_retries", -1),
        ("max_retries", 2**32),
        ("max_in_flight", 0),
        ("max_in_flight", -5),
        ("requests_per_second", -1.0),
        ("requests_per_second", math.nan),
        ("requests_per_second", math.inf),
        ("session", "logout"),
        ("session", ""),
        ("ca_file", "/nowhere/ca.pem"),
        ("ca_file", Path("/nowhere/ca.pem")),
        ("ca_file", __file__),
        ("proxy", "no url"),
        ("proxy", "ftp://localhost"),
        ("user_agent", "two\nlines"),
    ],
)
def test_option_that_makes_no_sense(standin: Standin, option: str, value: Any) -> None:
    with pytest.raises(greenapi.InvalidArgument, match=option):
        greenapi.Client(standin.url, standin.token, **{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout", None),
        ("timeout", "1"),
        ("timeout", True),
        ("max_retries", 1.0),
        ("max_retries", True),
        ("max_in_flight", None),
        ("requests_per_second", "1"),
        ("session", None),
        ("session", 1),
        ("allow_http", 1),
        ("allow_http", "yes"),
        ("ca_file", 1),
        ("ca_file", b"ca.pem"),
        ("proxy", Path("proxy")),
        ("user_agent", 1),
    ],
)
def test_option_of_another_type(standin: Standin, option: str, value: Any) -> None:
    with pytest.raises(TypeError, match=option):
        greenapi.Client(standin.url, standin.token, **{option: value})


@pytest.mark.parametrize("url", ["", "localhost", "http://example.com", "https://a@b", "ftp://a"])
def test_url_that_cannot_be_used(url: str) -> None:
    with pytest.raises(greenapi.InvalidArgument) as caught:
        greenapi.Client(url, TOKEN)
    assert caught.value.id_instance == 0
    with pytest.raises(greenapi.InvalidArgument) as caught:
        greenapi.delete_instance(url, TOKEN, 7)
    assert caught.value.id_instance == 7


def test_options_reach_the_library(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    with greenapi.Client(
        standin.https_url,
        standin.token,
        ca_file=Path(standin.ca_file),
        proxy="",
        user_agent="fleet/7",
        allow_http=True,
        requests_per_second=1000,
        max_in_flight=1,
    ) as client:
        assert client.delete_instance(id_instance).ok
    assert "fleet/7" in standin.stats()["last_head"]


def test_refusals_are_in_pythons_words(standin: Standin) -> None:
    with pytest.raises(greenapi.InvalidArgument, match="journal is an empty path") as caught:
        greenapi.Client(standin.url, standin.token, journal="")
    assert "NULL" not in str(caught.value)


def test_proxy_is_used(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    with greenapi.Client(standin.url, standin.token, proxy=standin.proxy_http) as client:
        assert client.delete_instance(id_instance).ok
    assert sum(sum(proxy.values()) for proxy in standin.stats()["proxies"].values()) == 1


def test_shortest_timeout_is_a_timeout(standin: Standin) -> None:
    with greenapi.Client(standin.traps["accept_stall"], standin.token, timeout=0.001) as client, \
            pytest.raises(greenapi.Error) as caught:  # fmt: skip
        client.delete_instance(1)
    assert not isinstance(caught.value, greenapi.InvalidArgument)


# --- ownership ---


def test_close(standin: Standin) -> None:
    client = greenapi.Client(standin.url, standin.token)
    assert repr(client) == f"<greenapi.Client {standin.url} open>"
    client.close()
    client.close()
    assert client.closed
    assert repr(client) == f"<greenapi.Client {standin.url} closed>"
    for use in (
        lambda: client.delete_instance(1),
        lambda: client.delete_instances([1]),
        client.__enter__,
    ):
        with pytest.raises(RuntimeError, match="this Client is closed"):
            use()


def test_close_lets_calls_complete(standin: Standin) -> None:
    ids = standin.instances(3)
    standin.hold()
    client = greenapi.Client(standin.url, standin.token)
    with ThreadPoolExecutor() as threads:
        calls = [threads.submit(client.delete_instance, id_instance) for id_instance in ids]
        standin.wait(held=len(ids))
        client.close()
        standin.release()
        assert all(call.result().ok for call in calls)
    assert standin.deleted() == set(ids)


@pytest.mark.parametrize("kind", [greenapi.Client, greenapi.AsyncClient])
def test_no_copies(standin: Standin, kind: type[greenapi.Client]) -> None:
    client = kind(standin.url, standin.token)
    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="make one in each process"):
            duplicate(client)
        with pytest.raises(TypeError, match="copied or pickled"):
            duplicate(client._owned)


def test_dropped_without_close_is_freed(standin: Standin) -> None:
    freed = []
    client = greenapi.Client(standin.url, standin.token)
    owned = client._owned
    assert owned is not None
    real = owned._free

    def free(pointer: int) -> None:
        freed.append(pointer)
        real(pointer)

    owned._free = free
    pointer = owned.pointer.value
    del owned, client
    gc.collect()
    assert freed == [pointer]


def test_many_threads(standin: Standin) -> None:
    ids = standin.instances(2000)
    with greenapi.Client(standin.url, standin.token) as client, ThreadPoolExecutor(32) as threads:
        results = list(threads.map(client.delete_instance, ids))
    assert [result.id_instance for result in results] == ids
    assert standin.deleted() == set(ids)


def test_idle_queues_are_bounded(standin: Standin) -> None:
    count = _queue._IDLE_MAX + 20
    ids = standin.instances(count)
    standin.hold()
    with greenapi.Client(standin.url, standin.token, max_in_flight=count) as client, \
            ThreadPoolExecutor(count) as threads:  # fmt: skip
        calls = [threads.submit(client.delete_instance, id_instance) for id_instance in ids]
        standin.wait(held=count)
        standin.release()
        assert all(call.result().ok for call in calls)
    assert 0 < len(_queue._idle) <= _queue._IDLE_MAX


# --- the secret ---


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "nonsense"},
        {"url": "http://example.com"},
        {"token": f"{TOKEN}\0"},
        {"token": f"{TOKEN}\ud800"},
        {"token": f"{TOKEN}\n"},
        {"token": [TOKEN]},
        {"token": TOKEN.encode()},
        {"timeout": "1"},
        {"timeout": -1},
        {"session": "none"},
        {"proxy": f"nonsense://user:{TOKEN}@localhost"},
        {"proxy": f"http://user:{TOKEN}\0@localhost"},
        {"proxy": [TOKEN]},
        {"ca_file": "/nowhere"},
        {"user_agent": "\n"},
    ],
    ids=lambda arguments: ascii(arguments).replace(TOKEN, "TOKEN"),
)
def test_no_error_shows_the_token(arguments: dict[str, Any]) -> None:
    with pytest.raises((greenapi.Error, TypeError)) as caught:
        greenapi.Client(**{"url": "https://localhost", "token": TOKEN, **arguments})
    assert leaks(caught.value, TOKEN) == []


@pytest.mark.parametrize("url", ["refused", "accept_reset", "accept_fin", "tls_self_signed"])
def test_no_failure_shows_the_token(standin: Standin, url: str) -> None:
    with pytest.raises(greenapi.Error) as caught:
        greenapi.delete_instance(standin.traps[url], TOKEN, 1)
    assert leaks(caught.value, TOKEN) == []
    with pytest.raises(greenapi.Error) as caught:
        greenapi.delete_instance("nonsense", TOKEN, 1)
    assert leaks(caught.value, TOKEN) == []
    with pytest.raises(TypeError) as mistaken:
        greenapi.delete_instance(standin.url, TOKEN, "1")  # type: ignore[arg-type]
    assert leaks(mistaken.value, TOKEN) == []


def test_no_thread_is_made_by_python(standin: Standin, client: greenapi.Client) -> None:
    before = threading.active_count()
    assert all(result.ok for result in client.delete_instances(standin.instances(100)))
    assert threading.active_count() == before


def test_a_finalized_object_has_no_pointer_any_more() -> None:
    freed: list[int] = []
    owned = Owned(freed.append)
    owned.pointer.value = 7
    # As the garbage collector does with a member of a cycle while others still refer to it.
    owned.__del__()
    assert not owned.pointer
    del owned
    assert freed == [7]


def test_an_event_loop_that_is_abandoned_with_deletions_under_way_crashes_nothing(
    standin: Standin,
) -> None:
    program = """
import asyncio, gc, os, greenapi

def abandon():
    loop = asyncio.new_event_loop()
    client = greenapi.AsyncClient(os.environ["GREENAPI_URL"], "token")
    tasks = [loop.create_task(client.delete_instance(id)) for id in range(1, 65)]
    loop.run_until_complete(asyncio.sleep(0.01))
    # The cycle of loop and tasks is collected at once, in any order.
    loop._selector.close()
    loop.tasks = tasks

for _ in range(5):
    abandon()
    gc.collect()
print("alive")
"""
    # The environment with the package's path, so that the test runs without an installation too.
    status, out, err = programs.run(program, standin.environment())
    assert (status, out) == (0, "alive\n"), err
