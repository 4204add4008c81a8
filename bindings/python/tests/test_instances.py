"""The account's list: typed instances, their times and states, and how it ends."""

import asyncio
import copy
import itertools
import json
import pickle
import runpy
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import trio

import greenapi
import steps
from greenapi import Instance, State
from programs import INTERRUPTIBLE, needs_trio, press_ctrl_c, program
from standin import Standin

UTC = timezone.utc


async def of_async(client: greenapi.AsyncClient, states: bool) -> list[Instance]:
    return [instance async for instance in client.instances(states=states)]


def by_client(standin: Standin, states: bool = False) -> list[Instance]:
    with greenapi.Client(standin.url, standin.token, max_retries=0) as client:
        return list(client.instances(states=states))


def by_asyncio(standin: Standin, states: bool = False) -> list[Instance]:
    client = greenapi.AsyncClient(standin.url, standin.token, max_retries=0)
    return asyncio.run(of_async(client, states))


def by_trio(standin: Standin, states: bool = False) -> list[Instance]:
    client = greenapi.AsyncClient(standin.url, standin.token, max_retries=0)
    found: list[Instance] = trio.run(of_async, client, states)
    return found


WAYS = [by_client, by_asyncio, pytest.param(by_trio, marks=needs_trio)]
every_way = pytest.mark.parametrize("instances", WAYS)


@every_way
def test_an_empty_list(standin: Standin, instances: Callable[..., list[Instance]]) -> None:
    assert instances(standin) == []


@every_way
def test_many(standin: Standin, instances: Callable[..., list[Instance]]) -> None:
    ids = standin.instances(3000)
    assert [one.id_instance for one in instances(standin)] == ids


@every_way
def test_fields(standin: Standin, instances: Callable[..., list[Instance]]) -> None:
    name = 'Цветы & "花"\n\x1b[2J\U0001f600'
    standin.add(
        [
            {
                "id": 1101000001,
                "name": name,
                "state": "authorized",
                "type_instance": "telegram",
                "tariff": "DEVELOPER",
                "time_created": "2024-02-29T23:59:58",
                "expiration_date": "2025-01-31T10:00:00+03:00",
                "is_free": True,
                "is_partner": False,
            },
            {"id": 1101000002, "deleted": True, "time_deleted": "2026-11-20T01:02:03"},
            {"id": 1101000003, "expired": True, "time_created": "0001-01-01T00:00:00"},
        ]
    )
    living, deleted, expired = instances(standin)
    assert living == Instance(
        id_instance=1101000001,
        name=name,
        type="telegram",
        tariff="DEVELOPER",
        state=State.NOT_ASKED,
        created=datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC),
        deleted=None,
        expires=datetime(2025, 1, 31, 7, tzinfo=UTC),
        is_deleted=False,
        is_expired=False,
        is_free=True,
        is_partner=False,
    )
    assert deleted.is_deleted
    assert deleted.deleted == datetime(2026, 11, 20, 1, 2, 3, tzinfo=UTC)
    assert expired.is_expired
    assert expired.created is None
    with pytest.raises(AttributeError):
        living.name = "other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(living)) == living
    as_dict = json.loads(json.dumps(living.as_dict()))
    assert (as_dict["state"], as_dict["deleted"]) == ("NOT_ASKED", None)
    assert as_dict["created"] == "2024-02-29T23:59:58+00:00"


@every_way
def test_states(standin: Standin, instances: Callable[..., list[Instance]]) -> None:
    states = {
        "notAuthorized": State.NOT_AUTHORIZED,
        "authorized": State.AUTHORIZED,
        "blocked": State.BLOCKED,
        "sleepMode": State.SLEEP_MODE,
        "starting": State.STARTING,
        "yellowCard": State.YELLOW_CARD,
        "suspended": State.SUSPENDED,
        "pendingPassword": State.PENDING_PASSWORD,
        "somethingNew": State.OTHER,
    }
    rows: list[dict[str, Any]] = [{"state": state} for state in states]
    rows += [{"expired": True}, {"creating": True}, {"deleted": True}]
    standin.add([{"id": 1101000001 + number, **row} for number, row in enumerate(rows)])
    expected = [*states.values(), State.EXPIRED, State.CREATING, State.NOT_ASKED]
    assert [one.state for one in instances(standin, states=True)] == expected


@every_way
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 401}, greenapi.Unauthorized),
        ({"status": 429}, greenapi.RateLimited),
        ({"status": 200, "body": '{"code":401,"description":"Unauthorized"}'},
         greenapi.Unauthorized),
        ({"status": 200, "body": '[{"idInstance":1},{"name":"no id"}]'}, greenapi.BadResponse),
        ({"status": 200, "body": '[{"idInstance":1},{"idInst'}, greenapi.BadResponse),
        ({"status": 200, "body": "<html>"}, greenapi.BadResponse),
    ],
    ids=str,
)  # fmt: skip
def test_a_list_that_breaks_off_is_an_error(
    standin: Standin,
    instances: Callable[..., list[Instance]],
    fault: dict[str, Any],
    kind: type[greenapi.Error],
) -> None:
    standin.instances(2)
    standin.rule({"method": "list", "fault": fault})
    with pytest.raises(kind) as caught:
        instances(standin)
    assert caught.value.id_instance == 0
    assert standin.token not in str(caught.value)


def test_what_came_before_the_break_is_given(standin: Standin, client: greenapi.Client) -> None:
    body = '[{"idInstance":1},{"idInstance":2},{"idInst'
    standin.rule({"method": "list", "fault": {"status": 200, "body": body}})
    seen = []
    instances = client.instances()
    with pytest.raises(greenapi.BadResponse):
        for instance in instances:
            seen.append(instance.id_instance)
    assert seen == [1, 2]
    with pytest.raises(RuntimeError, match="ended before it was complete"):
        next(instances)


def test_leaving_early(standin: Standin, client: greenapi.Client) -> None:
    standin.instances(3000)
    with client.instances() as instances:
        assert next(instances).id_instance
    # A part must not pass for the whole.
    for _ in range(2):
        with pytest.raises(RuntimeError, match="ended before it was complete"):
            next(instances)
    with client.instances() as instances:
        assert len(list(instances)) == 3000
    assert list(instances) == []
    with pytest.raises(TypeError, match="states must be True or False"):
        client.instances(states=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [steps.Interrupt, steps.HardInterrupt])
def test_an_interrupted_list_is_never_taken_for_a_whole_one(
    standin: Standin, client: greenapi.Client, kind: type[BaseException]
) -> None:
    ids = standin.instances(3)
    places = set()
    for step in itertools.count(1):
        seen: list[Instance] = []
        with steps.At(step, steps.raising(kind)) as at:
            try:
                instances = client.instances()
                while True:
                    try:
                        seen += instances
                        break
                    except kind:
                        pass
            except (kind, RuntimeError):
                # Before the list began, or "ended before it was complete".
                continue
            finally:
                places.add(at.place)
        assert [one.id_instance for one in seen] == ids
        if at.place is None:
            break
    assert len(places) > 10


INTERRUPTED = (
    INTERRUPTIBLE
    + """
import asyncio, os
import greenapi
url, token = os.environ["GREENAPI_URL"], os.environ["GREENAPI_TOKEN"]
async def by_async():
    async for one in greenapi.AsyncClient(url, token).instances():
        pass
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    input()
"""
)


@pytest.mark.parametrize(
    "call", ["list(greenapi.Client(url, token).instances())", "asyncio.run(by_async())"]
)
def test_ctrl_c_ends_it_at_once(standin: Standin, call: str) -> None:
    standin.rule({"method": "list", "fault": {"hold": True}})
    source = INTERRUPTED.format(call=call)
    with program(source, standin.environment(), stdin=-1) as process:
        standin.wait(held=1)
        press_ctrl_c(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "interrupted\n"
        standin.wait(open=0)
        process.communicate("\n")


def test_cancelling_ends_it_at_once(standin: Standin) -> None:
    standin.rule({"method": "list", "fault": {"hold": True}})

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(of_async(client, False), 0.3)
        await asyncio.get_running_loop().run_in_executor(None, lambda: standin.wait(open=0))

    asyncio.run(main())


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, pickle.dumps])
def test_runs_have_no_copies(standin: Standin, copying: Callable[[Any], Any]) -> None:
    client = greenapi.Client(standin.url, standin.token)
    other = greenapi.AsyncClient(standin.url, standin.token)
    for run in (
        *(client.delete_instances([]), other.delete_instances([])),
        *(client.instances(), other.instances()),
    ):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copying(run)
        run.close()


def test_pyinstaller_finds_everything() -> None:
    from greenapi import _pyinstaller

    [place] = _pyinstaller.hook_dirs()
    hook = runpy.run_path(str(Path(place) / "hook-greenapi.py"))
    [(library, inside)] = hook["binaries"]
    assert Path(library).is_file()
    assert inside == "greenapi"
    assert {"greenapi._async", "greenapi._instances"} <= set(hook["hiddenimports"])
