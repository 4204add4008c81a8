"""An exception of a signal handler at every step: no result is lost, and nothing waits for ever."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from programs import run
from standin import Standin

PRELUDE = """
import asyncio, contextlib, itertools, json, os, sys, warnings
import greenapi, steps
# A coroutine whose first step was interrupted was never awaited.
warnings.simplefilter("ignore")
url, token = os.environ["GREENAPI_URL"], os.environ["GREENAPI_TOKEN"]
kind = getattr(steps, sys.argv[1])
ids = iter(json.load(sys.stdin))
client = greenapi.Client(url, token, max_in_flight=2)
other = greenapi.AsyncClient(url, token, max_in_flight=2)
client.delete_instance(next(ids))
def show(place, drawn, results):
    rows = [None if one is None else [one.id_instance, one.status.name] for one in results]
    print(json.dumps([place, drawn, rows]))
"""

ONE = """
for step in itertools.count(1):
    one = next(ids)
    with steps.At(step, steps.raising(kind)) as at:
        try:
            result = {call}
        except kind as interrupt:
            result = greenapi.fate(interrupt)
    show(at.place, [one], [result])
    if at.place is None:
        break
    # The queues of the pool are as good as before.
    assert client.delete_instance(next(ids)).ok
"""

ONE_ASYNC = """
async def main():
    loop = asyncio.get_running_loop()
    # A callback's exception goes no further than the loop.
    loop.set_exception_handler(lambda loop, context: None)
    for step in itertools.count(1):
        one = next(ids)
        with steps.At(step, steps.raising(kind)) as at:
            try:
                result = await other.delete_instance(one)
            except kind as interrupt:
                result = greenapi.fate(interrupt)
        show(at.place, [one], [result])
        if at.place is None:
            break
        assert (await other.delete_instance(next(ids))).ok
asyncio.run(main())
"""

MANY = """
for step in itertools.count(1):
    drawn = []
    def source():
        for one in itertools.islice(ids, 4):
            drawn.append(one)
            yield one
    if sys.argv[2] != "generator":
        drawn = list(source())
    if sys.argv[2] == "block":
        # An id that is not submitted: leaving the block puts other results behind its result.
        drawn.insert(1, 2**70)
    seen, begun = [], False
    with steps.At(step, steps.raising(kind)) as at:
        try:
            results = client.delete_instances(drawn or source())
            begun = True
            with results if sys.argv[2] == "block" else contextlib.nullcontext():
                for result in results:
                    seen.append(result)
        except kind:
            pass
    if begun:
        seen += results
        show(at.place, drawn, seen)
    if at.place is None:
        break
"""

MANY_ASYNC = """
async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    for step in itertools.count(1):
        drawn = list(itertools.islice(ids, 4))
        seen, begun = [], False
        with steps.At(step, steps.raising(kind)) as at:
            try:
                results = other.delete_instances(drawn)
                begun = True
                async for result in results:
                    seen.append(result)
            except kind:
                pass
        if begun:
            seen += [result async for result in results]
            show(at.place, drawn, seen)
        if at.place is None:
            break
asyncio.run(main())
"""


def interrupted(standin: Standin, source: str, *arguments: str) -> list[Any]:
    ids = standin.instances(4000)
    tests = Path(__file__).parent
    paths = os.pathsep.join([standin.environment()["PYTHONPATH"], str(tests)])
    environment = standin.environment(PYTHONPATH=paths)
    code, out, err = run(PRELUDE + source, environment, *arguments, stdin=json.dumps(ids))
    shown = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, ""), shown[-1:]
    # The last one had no step left to be interrupted at.
    assert shown[-1][0] is None
    assert len(shown) > 20
    # Every result is true.
    deleted, received = standin.deleted(), {row["id"] for row in standin.arrivals()}
    for place, _, results in shown:
        for one, status in filter(None, results):
            assert (one in deleted) == (status == "OK") or "IN_FLIGHT" in status, (place, status)
            assert one not in received or status != "CANCELLED", place
    return shown


KINDS = ["Interrupt", "HardInterrupt"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "call",
    ["client.delete_instance(one)", "greenapi.delete_instance(url, token, one)", "async"],
)
def test_one(standin: Standin, call: str, kind: str) -> None:
    source = ONE_ASYNC if call == "async" else ONE.format(call=call)
    shown = interrupted(standin, source, kind)
    deleted = standin.deleted()
    for place, [one], [result] in shown:
        # Without a result nothing was sent.
        assert result or one not in deleted, place
    assert {"OK", "CANCELLED"} <= {result[1] for _, _, [result] in shown if result}


@pytest.mark.parametrize(
    ("source", "kind", "ids"),
    [
        (MANY, "Interrupt", "list"),
        (MANY, "HardInterrupt", "generator"),
        (MANY, "HardInterrupt", "block"),
        (MANY_ASYNC, "Interrupt", "list"),
    ],
    ids=["list", "generator", "block", "async"],
)
def test_many(standin: Standin, source: str, kind: str, ids: str) -> None:
    for place, drawn, results in interrupted(standin, source, kind, ids):
        assert sorted(one for one, _ in results) == sorted(drawn), place


COMMAND = """
import contextlib, io, signal
from greenapi import _cli, _cli_delete
def run(*arguments, run=_cli_delete._run):
    with at:
        return run(*arguments)
_cli_delete._run = run
for step in itertools.count(1):
    drawn = list(itertools.islice(ids, 3))
    at = steps.At(step, lambda: signal.raise_signal(signal.SIGINT))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            arguments = ["delete", "--yes", "--json", "--max-in-flight", "2", *map(str, drawn)]
            code = _cli.main(arguments)
    nothing = "nothing was deleted" in err.getvalue()
    assert code == (130 if nothing or "interrupted" in err.getvalue() else 0), err.getvalue()
    results = []
    if not nothing:
        assert out.getvalue().endswith("\\n")
        *results, summary = map(json.loads, out.getvalue().splitlines())
        assert summary["interrupted"] == (code == 130)
        assert {one["id_instance"] for one in results} == {*drawn}
    print(json.dumps([at.place, drawn, [[one["id_instance"], one["status"]] for one in results]]))
    if at.place is None:
        break
"""


def test_the_command_shows_every_result(standin: Standin) -> None:
    deleted = None
    for place, drawn, results in interrupted(standin, COMMAND, "Interrupt"):
        deleted = standin.deleted() if deleted is None else deleted
        assert results or deleted.isdisjoint(drawn), place
        assert len(results) in (0, len(drawn)), place
