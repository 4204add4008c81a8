"""``AsyncClient`` under trio, by trio's own means."""

from collections.abc import AsyncGenerator, AsyncIterator

import pytest
import trio

import greenapi
from greenapi import Status
from programs import needs_trio
from standin import Standin

pytestmark = needs_trio


async def aside(function: object, **arguments: int) -> None:
    await trio.to_thread.run_sync(lambda: function(**arguments))  # type: ignore[operator]


def test_one_and_many(standin: Standin) -> None:
    ids = standin.instances(300)

    async def main() -> None:
        results: list[greenapi.Result] = []
        async with greenapi.AsyncClient(standin.url, standin.token) as client:
            assert (await client.delete_instance(ids[0])).ok
            with pytest.raises(greenapi.NotFound):
                await client.delete_instance(ids[0])

            async def one(number: int) -> None:
                results.append(await client.delete_instance(number))

            async with trio.open_nursery() as nursery:
                for number in ids[1:]:
                    nursery.start_soon(one, number)
        assert sorted(result.id_instance for result in results) == ids[1:]

    trio.run(main)
    assert standin.deleted() == set(ids)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_bulk(standin: Standin, is_async: bool) -> None:
    ids = standin.instances(500)

    async def one_by_one() -> AsyncIterator[int]:
        for one in ids:
            if one % 10 == 0:
                await trio.lowlevel.checkpoint()
            yield one

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token)
        results = client.delete_instances(one_by_one() if is_async else ids)
        assert sorted([result.id_instance async for result in results]) == ids

    trio.run(main)
    assert standin.deleted() == set(ids)


def test_cancelling_one(standin: Standin) -> None:
    [one] = standin.instances(1)
    standin.hold()

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token)
        with trio.move_on_after(0.3) as scope:
            try:
                await client.delete_instance(one)
            except trio.Cancelled as error:
                known = greenapi.fate(error)
                assert known is not None
                assert known.status is Status.CANCELLED_IN_FLIGHT
                raise
        assert scope.cancelled_caught
        await aside(standin.wait, open=0)

    trio.run(main)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_cancelling_many(standin: Standin, is_async: bool) -> None:
    ids = standin.instances(30)
    standin.rule({"skip": 1, "fault": {"hold": True}})

    async def one_by_one() -> AsyncGenerator[int, None]:
        for one in ids:
            yield one

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token, max_in_flight=4)
        seen = []
        source = one_by_one()
        results = client.delete_instances(source if is_async else ids)
        with trio.move_on_after(0.5):
            async with results:
                async for result in results:
                    seen.append(result)
        # The connection of the first is kept.
        await aside(standin.wait, open=1)
        rest = [result async for result in results]
        assert sorted(one.id_instance for one in seen + rest) == ids[: len(seen + rest)]
        assert is_async or len(seen + rest) == len(ids)
        assert {one.status for one in rest} == {Status.CANCELLED, Status.CANCELLED_IN_FLIGHT}
        await source.aclose()

    trio.run(main)


def test_nothing_is_sent_in_a_cancelled_scope(standin: Standin) -> None:
    ids = standin.instances(3)

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token)
        assert (await client.delete_instance(ids[0])).ok
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await client.delete_instance(ids[1])
            except trio.Cancelled as error:
                known = greenapi.fate(error)
                assert known is not None
                assert (known.status, known.attempts) == (Status.CANCELLED, 0)
                raise
        assert scope.cancelled_caught
        results = client.delete_instances(ids[1:])
        with trio.CancelScope() as scope:
            scope.cancel()
            async for result in results:
                pytest.fail(f"{result}")
        assert scope.cancelled_caught
        assert [one.status async for one in results] == [Status.CANCELLED] * 2
        assert (await client.delete_instance(ids[2])).ok

    trio.run(main)
    assert [row["id"] for row in standin.arrivals()] == [ids[0], ids[2]]


def test_leaving_early(standin: Standin) -> None:
    ids = standin.instances(30)
    standin.rule({"skip": 1, "fault": {"hold": True}})

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token, max_in_flight=4)
        async for result in client.delete_instances(ids):
            assert result.ok
            break
        await aside(standin.wait, open=1)

    trio.run(main)


def test_pace(standin: Standin) -> None:
    ids = standin.instances(20)

    async def main() -> None:
        client = greenapi.AsyncClient(standin.url, standin.token, requests_per_second=50)
        async for result in client.delete_instances(ids):
            assert result.ok

    trio.run(main)
    times = [row["at_ms"] for row in standin.arrivals()]
    assert times[-1] - times[0] >= 350
