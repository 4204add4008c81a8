"""Stopping half-way: a call or run that ends early still has its results."""

import asyncio
import json
import logging
import pickle
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import greenapi
from greenapi import Effect, Status
from programs import INTERRUPTIBLE, WINDOWS, finish, press_ctrl_c, program
from standin import Standin

NOT_SENT, SENT = Status.CANCELLED, Status.CANCELLED_IN_FLIGHT


def held(standin: Standin, answered: int, count: int) -> list[int]:
    """Instances, of whose deletions only the first few are answered."""
    ids = standin.instances(count)
    standin.rule({"skip": answered, "fault": {"hold": True}})
    return ids


def check_rest(standin: Standin, rest: list[greenapi.Result]) -> None:
    """The results of cancelled deletions show exactly which had been sent."""
    received = {row["id"] for row in standin.arrivals()}
    for result in rest:
        # A request that was on its way when it was cancelled may never arrive.
        assert result.status is SENT or result.id_instance not in received
        assert result.attempts == (1 if result.status is SENT else 0)
        assert result.message


# --- a run ---


def test_cancel_brings_the_rest(standin: Standin) -> None:
    ids = held(standin, 1, 100)
    with greenapi.Client(standin.url, standin.token, max_in_flight=4) as client:
        results = client.delete_instances(ids)
        first = next(results)
        standin.wait(held=4)
        begun = time.monotonic()
        results.cancel()
        results.cancel()
        rest = list(results)
    assert time.monotonic() - begun < 5
    assert first.ok
    assert sorted(one.id_instance for one in [first, *rest]) == ids
    assert {one.status for one in rest} == {NOT_SENT, SENT}
    check_rest(standin, rest)
    standin.release()
    # What had been sent may be carried out before the server sees that nobody waits for it.
    sent = {one.id_instance for one in rest if one.status is SENT}
    assert {first.id_instance} <= standin.deleted() <= {first.id_instance} | sent


def test_cancel_draws_nothing_more_from_a_generator(standin: Standin) -> None:
    ids = held(standin, 1, 100)
    drawn = []

    def source() -> Iterator[int]:
        for one in ids:
            drawn.append(one)
            yield one

    with greenapi.Client(standin.url, standin.token, max_in_flight=4) as client:
        results = client.delete_instances(source())
        first = next(results)
        results.cancel()
        before = len(drawn)
        rest = list(results)
    assert len(drawn) == before <= 9
    assert sorted(one.id_instance for one in [first, *rest]) == drawn


def test_leaving_the_block_keeps_the_rest(standin: Standin) -> None:
    ids = held(standin, 1, 20)
    with greenapi.Client(standin.url, standin.token, max_in_flight=4) as client:
        with client.delete_instances(ids) as results:
            for first in results:
                assert first.ok
                standin.wait(held=4)
                break
        # Nothing is under way after the block, though nothing was iterated.
        standin.wait(open=0)
        rest = list(results)
        assert list(results) == []
    assert sorted(one.id_instance for one in [first, *rest]) == ids
    check_rest(standin, rest)


def test_a_block_that_is_left_at_its_end_changes_nothing(
    standin: Standin, client: greenapi.Client
) -> None:
    ids = standin.instances(50)
    with client.delete_instances(ids) as results:
        assert all(one.ok for one in results)
    assert list(results) == []
    results.cancel()
    results.close()


def test_close_loses_the_rest(standin: Standin, client: greenapi.Client) -> None:
    ids = held(standin, 1, 20)
    results = client.delete_instances(ids)
    next(results)
    results.close()
    assert list(results) == []
    # The connection of the first is kept.
    standin.wait(open=1)


def test_cancel_from_another_thread(standin: Standin, client: greenapi.Client) -> None:
    ids = held(standin, 0, 20)
    results = client.delete_instances(ids)

    def cancel() -> None:
        standin.wait(held=20)
        results.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    rest = list(results)
    thread.join()
    assert sorted(one.id_instance for one in rest) == ids
    assert {one.status for one in rest} == {SENT}


def test_one_thread_at_a_time(standin: Standin, client: greenapi.Client) -> None:
    ids = held(standin, 0, 1)
    results = client.delete_instances(ids)
    thread = threading.Thread(target=lambda: list(results))
    thread.start()
    standin.wait(held=1)
    with pytest.raises(ValueError, match="another thread"):
        next(results)
    results.cancel()
    thread.join()


@pytest.mark.parametrize("rate", [None, 20.0])
def test_nothing_is_started_while_nobody_draws(standin: Standin, rate: Any) -> None:
    ids = held(standin, 1, 100)
    with greenapi.Client(
        standin.url, standin.token, max_in_flight=8, requests_per_second=rate
    ) as client:
        results = client.delete_instances(ids)
        next(results)
        standin.clear_faults()
        standin.release()
        # 20 more would take this long at this pace.
        time.sleep(1)
        assert standin.stats()["received"] <= (4 if rate else 9)
        assert sum(1 for _ in zip(range(20), results)) == 20
        results.close()


def test_pace_is_kept(standin: Standin) -> None:
    ids = standin.instances(40)
    with greenapi.Client(standin.url, standin.token, requests_per_second=100) as client:
        assert all(one.ok for one in client.delete_instances(ids))
    times = [row["at_ms"] for row in standin.arrivals()]
    # 39 pauses of 10 ms; a busy machine takes longer.
    assert 350 <= times[-1] - times[0] < 3000


def test_cancel_ends_a_wait_for_the_pace(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = standin.instances(2)
    with greenapi.Client(standin.url, standin.token, requests_per_second=0.05) as client:
        results = client.delete_instances(ids)
        assert next(results).ok
        queue = results._bulk._queue
        assert queue is not None
        real = queue.wait

        def wait(seconds: Any) -> None:
            # As from a signal handler or another thread, when it is no longer looked for.
            results.cancel()
            real(seconds)

        monkeypatch.setattr(queue, "wait", wait)
        begun = time.monotonic()
        assert [one.status for one in results] == [NOT_SENT]
    # The pace would allow the second deletion only after 20 seconds.
    assert time.monotonic() - begun < 10


def test_bad_id_is_shown_with_its_place(standin: Standin, client: greenapi.Client) -> None:
    ids = standin.instances(2)
    results = client.delete_instances([*ids, "2000000003", 4])  # type: ignore[list-item]
    assert next(results).ok
    assert next(results).ok
    with pytest.raises(TypeError, match=r"ids\[2\] must be an int, not str \('2000000003'\)"):
        next(results)
    assert list(results) == []


INTERRUPTED_RUN = (
    INTERRUPTIBLE
    + """
import json, os, sys
import greenapi
client = greenapi.Client(os.environ["GREENAPI_URL"], os.environ["GREENAPI_TOKEN"], max_in_flight=4)
results = client.delete_instances([int(one) for one in sys.argv[1:]])
seen = []
try:
    # The interrupt may come while the body runs, too.
    with results:
        for result in results:
            seen.append(result)
            print(result, flush=True)
except KeyboardInterrupt:
    seen += results
print(json.dumps([result.as_dict() for result in seen]))
"""
)


def test_ctrl_c_leaves_the_rest_to_be_drawn(standin: Standin) -> None:
    ids = held(standin, 2, 30)
    with program(INTERRUPTED_RUN, standin.environment(), *map(str, ids), stdin=-1) as process:
        standin.wait(held=4)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        press_ctrl_c(process)
        code, out, err = finish(process)
    assert (code, err) == (0, "")
    results = json.loads(out.splitlines()[-1])
    assert sorted(one["id_instance"] for one in results) == ids
    received = {row["id"] for row in standin.arrivals()}
    for one in results:
        expected = "OK" if one["status"] == "OK" else "CANCELLED_IN_FLIGHT"
        assert one["status"] == (expected if one["id_instance"] in received else "CANCELLED")


# --- one call ---

INTERRUPTED_CALL = (
    INTERRUPTIBLE
    + """
import os, signal, sys, traceback
import greenapi
url, token, one = os.environ["GREENAPI_URL"], os.environ["GREENAPI_TOKEN"], int(sys.argv[1])
class Stopped(Exception):
    pass
def stop(number, frame):
    raise Stopped
if hasattr(signal, "SIGUSR1"):
    signal.signal(signal.SIGUSR1, stop)
try:
    {call}
except BaseException as error:
    kind, known = type(error).__name__, greenapi.fate(error)
    print(kind, known.id_instance, known.status, known.attempts)
    if sys.version_info >= (3, 11):
        assert f"greenapi: {{one}} {{known.status}}: " in "".join(traceback.format_exception(error))
"""
)

CALLS = {
    "one call": "greenapi.delete_instance(url, token, one)",
    "client": "greenapi.Client(url, token).delete_instance(one)",
}


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "Stopped"])
@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_carries_the_fate(standin: Standin, call: str, kind: str) -> None:
    if WINDOWS and kind == "Stopped":
        pytest.skip("Windows has no SIGUSR1")
    [one] = held(standin, 0, 1)
    source = INTERRUPTED_CALL.format(call=CALLS[call])
    with program(source, standin.environment(), str(one), stdin=-1) as process:
        standin.wait(held=1)
        if kind == "Stopped":
            process.send_signal(signal.SIGUSR1)
        else:
            press_ctrl_c(process)
        assert finish(process) == (0, f"{kind} {one} CANCELLED_IN_FLIGHT 1\n", "")
    standin.wait(open=0)


def test_fate_before_its_turn(standin: Standin) -> None:
    ids = held(standin, 0, 2)

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token, max_in_flight=1)
        calls = [asyncio.ensure_future(client.delete_instance(one)) for one in ids]
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, lambda: standin.wait(held=1))
        for call, status in zip(calls[::-1], (NOT_SENT, SENT)):
            call.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await call
            known = greenapi.fate(caught.value)
            assert known is not None
            assert (known.status, known.id_instance in ids) == (status, True)

    asyncio.run(main())


def test_fate_through_a_timeout(standin: Standin) -> None:
    [one] = held(standin, 0, 1)

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token)
        with pytest.raises(asyncio.TimeoutError) as caught:
            await asyncio.wait_for(client.delete_instance(one), 0.2)
        known = greenapi.fate(caught.value)
        assert known is not None
        # On a busy machine the request may not have been sent so soon.
        assert (known.id_instance, known.status in (SENT, NOT_SENT)) == (one, True)
        if sys.version_info >= (3, 11):
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.2):
                    await client.delete_instance(one)
            known = greenapi.fate(caught.value)
            assert known is not None
            assert (known.id_instance, known.status in (SENT, NOT_SENT)) == (one, True)
        await asyncio.get_running_loop().run_in_executor(None, lambda: standin.wait(open=0))

    asyncio.run(main())


def test_fate_of_other_exceptions() -> None:
    assert greenapi.fate(KeyboardInterrupt()) is None
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert greenapi.fate(one) is None
    result = greenapi.Result(7, Status.TIMEOUT, 0, 0, 1, "late")
    with pytest.raises(greenapi.Timeout) as caught:
        result.raise_for_status()
    one.__cause__ = caught.value
    assert greenapi.fate(one) == greenapi.fate(caught.value) == result


# --- asyncio ---


async def one_by_one(ids: list[int]) -> AsyncIterator[int]:
    for one in ids:
        yield one


def aside(function: Any, **arguments: Any) -> Any:
    return asyncio.get_running_loop().run_in_executor(None, lambda: function(**arguments))


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_async_cancel_brings_the_rest(standin: Standin, is_async: bool) -> None:
    ids = held(standin, 1, 30)

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token, max_in_flight=4)
        seen = []
        async with client.delete_instances(one_by_one(ids) if is_async else ids) as results:
            async for result in results:
                seen.append(result)
                await aside(standin.wait, held=4)
                break
        await aside(standin.wait, open=0)
        rest = [result async for result in results]
        drawn = ids[: len(rest) + 1]
        assert sorted(one.id_instance for one in seen + rest) == drawn
        assert is_async or drawn == ids
        assert {one.status for one in rest} == {NOT_SENT, SENT}
        check_rest(standin, rest)

    asyncio.run(main())


def test_a_cancelled_task_leaves_the_rest_to_be_drawn(standin: Standin) -> None:
    ids = held(standin, 0, 10)

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token, max_in_flight=4)
        results = client.delete_instances(ids)

        async def consume() -> None:
            async for _ in results:
                raise AssertionError("nothing can have been answered")

        task = asyncio.ensure_future(consume())
        await asyncio.sleep(0)
        await aside(standin.wait, held=4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        rest = [result async for result in results]
        assert sorted(one.id_instance for one in rest) == ids
        check_rest(standin, rest)

    asyncio.run(main())


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_async_starts_nothing_while_nobody_draws(standin: Standin, is_async: bool) -> None:
    ids = standin.instances(100)

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token, max_in_flight=4)
        results = client.delete_instances(one_by_one(ids) if is_async else ids)
        await results.__anext__()
        await asyncio.sleep(1)
        assert standin.stats()["received"] <= 9
        await results.aclose()

    asyncio.run(main())


def test_async_pace_is_kept(standin: Standin) -> None:
    ids = standin.instances(40)

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token, requests_per_second=100)
        async for result in client.delete_instances(ids):
            assert result.ok

    asyncio.run(main())
    times = [row["at_ms"] for row in standin.arrivals()]
    assert 350 <= times[-1] - times[0] < 3000


def test_one_task_at_a_time(standin: Standin) -> None:
    ids = held(standin, 0, 1)

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token)
        results = client.delete_instances(ids)
        task = asyncio.ensure_future(results.__anext__())
        await aside(standin.wait, held=1)
        with pytest.raises(RuntimeError, match="another task"):
            await results.__anext__()
        results.cancel()
        # The result of the cancelled deletion wakes the waiting task.
        assert (await task).status is SENT

    asyncio.run(main())


# --- blocking calls keep their timeout ---


def test_waiting_for_a_turn_counts(standin: Standin) -> None:
    ids = held(standin, 0, 2)
    with greenapi.Client(standin.url, standin.token, max_in_flight=1, timeout=3) as client:
        first = threading.Thread(target=lambda: list(client.delete_instances(ids[:1])))
        first.start()
        standin.wait(held=1)
        time.sleep(1)
        begun = time.monotonic()
        with pytest.raises(greenapi.Timeout) as caught:
            client.delete_instance(ids[1])
        # The call's turn came after two seconds, which left one of its timeout: with the whole
        # timeout the call would have taken five.
        assert 3 <= time.monotonic() - begun < 4.5
        first.join()
    assert caught.value.attempts == 1


def test_not_started(standin: Standin) -> None:
    ids = held(standin, 0, 2)
    with greenapi.Client(
        standin.url, standin.token, timeout=0.3, requests_per_second=0.2
    ) as client:
        with pytest.raises(greenapi.Timeout):
            client.delete_instance(ids[0])
        begun = time.monotonic()
        # The pace allows the request only after five seconds.
        with pytest.raises(greenapi.NotStarted) as caught:
            client.delete_instance(ids[1])
    assert 0.3 <= time.monotonic() - begun < 2
    assert caught.value.attempts == 0
    assert caught.value.effect is Effect.NOT_DELETED
    assert standin.stats()["received"] == 1


# --- logging ---


def test_every_result_is_logged(
    standin: Standin, client: greenapi.Client, caplog: pytest.LogCaptureFixture
) -> None:
    ids = standin.instances(3)
    list(client.delete_instances(ids[:1]))
    assert caplog.text == ""
    with caplog.at_level(logging.DEBUG):
        client.delete_instance(ids[1])
        list(client.delete_instances([ids[2], ids[2] + 1]))
        with pytest.raises(greenapi.NotFound):
            client.delete_instance(ids[1])
        with pytest.raises(greenapi.Unauthorized):
            greenapi.delete_instance(standin.url, "gac.wrong", ids[1])
        list(client.instances())
    lines = [record.getMessage() for record in caplog.records if record.name == "greenapi"]
    assert len(lines) == 6
    assert lines[0].startswith(f"{ids[1]} OK: ")
    assert lines[-2].startswith(f"{ids[1]} UNAUTHORIZED: ")
    assert lines[-1].startswith("OK: The whole list came")
    assert all(record.levelno == logging.DEBUG for record in caplog.records)
    assert standin.token not in caplog.text
    assert "gac.wrong" not in caplog.text


def test_notes_are_pickled() -> None:
    with pytest.raises(greenapi.Timeout) as caught:
        greenapi.Result(7, Status.TIMEOUT, 0, 0, 1, "late").raise_for_status()
    caught.value.__notes__ = ["in the fourth batch"]
    copied = pickle.loads(pickle.dumps(caught.value))
    assert copied.__notes__ == ["in the fourth batch"]
    assert copied.result == caught.value.result
