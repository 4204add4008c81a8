"""``AsyncClient``: cancelling, loops one after the other and at once, other loops, bulk."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import pytest
from tqdm.asyncio import tqdm

import greenapi
from greenapi import Status, _async
from programs import WINDOWS
from standin import FIRST_ID, Standin
from test_bulk import Counted

if WINDOWS:
    # asyncio's own is the ProactorEventLoop there.
    other_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop
else:
    import uvloop

    other_loop = uvloop.new_event_loop

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def run_other(main: Coroutine[Any, Any, Any]) -> Any:
    loop = other_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class WithoutReaders(asyncio.SelectorEventLoop):
    """Refuses what Windows' ProactorEventLoop refuses."""

    def add_reader(self, *_: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


def run_without_readers(main: Coroutine[Any, Any, Any]) -> Any:
    loop = WithoutReaders()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.fixture(
    params=[asyncio.run, run_other, run_without_readers], ids=["asyncio", "other", "no readers"]
)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in a loop of its own."""
    runner: Run = request.param
    return runner


@pytest.fixture
def client(standin: Standin) -> Iterator[greenapi.AsyncClient]:
    made = greenapi.AsyncClient(standin.url, standin.token, max_retries=0)
    yield made
    made.close()


def test_one(standin: Standin, client: greenapi.AsyncClient, run: Run) -> None:
    [id_instance] = standin.instances(1)
    assert run(client.delete_instance(id_instance)).ok
    with pytest.raises(greenapi.NotFound):
        run(client.delete_instance(id_instance))
    with pytest.raises(greenapi.InvalidArgument):
        run(client.delete_instance(0))
    with pytest.raises(TypeError):
        run(client.delete_instance(True))
    assert standin.deleted() == {id_instance}
    # A loop in which nothing is under way leaves nothing behind.
    assert not hasattr(_async._Channel._of_thread, "channel")


def test_many_at_once(standin: Standin, client: greenapi.AsyncClient, run: Run) -> None:
    ids = standin.instances(3000)

    async def main() -> list[greenapi.Result]:
        return await asyncio.gather(*map(client.delete_instance, ids))

    assert [result.id_instance for result in run(main())] == ids
    assert standin.deleted() == set(ids)


def test_no_thread_per_call(standin: Standin, client: greenapi.AsyncClient, run: Run) -> None:
    ids = standin.instances(64)
    standin.hold()

    async def main() -> None:
        before = threading.active_count()
        calls = [asyncio.ensure_future(client.delete_instance(one)) for one in ids]
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as aside:
            await loop.run_in_executor(aside, lambda: standin.wait(held=64))
        # One more thread for all loops without readers.
        most = before + (run is run_without_readers or WINDOWS)
        assert before <= threading.active_count() <= most
        standin.release()
        assert all(result.ok for result in await asyncio.gather(*calls))

    run(main())


def test_the_watching_thread_is_kept(
    standin: Standin, client: greenapi.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first, *ids] = standin.instances(300)

    async def main() -> None:
        await client.delete_instance(first)
        # Windows would run out of ports if each wait had a pair of sockets of its own.
        monkeypatch.delattr(socket, "socketpair")
        assert [one.ok async for one in client.delete_instances(ids)] == [True] * len(ids)

    run_without_readers(main())
    assert standin.deleted() == {first, *ids}


async def aside(function: Callable[..., Any], **arguments: Any) -> None:
    """Waits for the stand-in without stopping the loop."""
    await asyncio.get_running_loop().run_in_executor(None, lambda: function(**arguments))


def test_cancelling_the_task_cancels_the_request(
    standin: Standin, client: greenapi.AsyncClient, run: Run
) -> None:
    ids = standin.instances(2)
    standin.rule({"id": ids[0], "fault": {"hold": True}})

    async def main() -> None:
        task = asyncio.ensure_future(client.delete_instance(ids[0]))
        await asyncio.sleep(0)
        await aside(standin.wait, held=1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await aside(standin.wait, open=0)
        standin.release()
        assert (await client.delete_instance(ids[1])).ok

    run(main())
    assert standin.deleted() == {ids[1]}


def test_wait_for(standin: Standin, client: greenapi.AsyncClient, run: Run) -> None:
    [id_instance] = standin.instances(1)
    standin.hold()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.delete_instance(id_instance), 0.1)
        await aside(standin.wait, open=0)

    run(main())
    assert standin.deleted() == set()


def test_nothing_is_sent_once_the_call_is_over(
    standin: Standin, client: greenapi.AsyncClient, run: Run
) -> None:
    ids = standin.instances(3)

    async def main() -> None:
        assert (await client.delete_instance(ids[0])).ok
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        # As asyncio.timeout does, which Python has from 3.11 on, when its time is over.
        for over in (task.cancel, lambda: loop.call_soon(task.cancel)):
            over()
            with pytest.raises(asyncio.CancelledError) as raised:
                await client.delete_instance(ids[1])
            known = greenapi.fate(raised.value)
            assert known is not None
            assert (known.status, known.attempts) == (Status.CANCELLED, 0)
            results = client.delete_instances(ids[1:])
            over()
            with pytest.raises(asyncio.CancelledError):
                await results.__anext__()
            assert [one.status async for one in results] == [Status.CANCELLED] * 2
        assert (await client.delete_instance(ids[2])).ok

    run(main())
    assert [row["id"] for row in standin.arrivals()] == [ids[0], ids[2]]


def test_cancelled_before_its_turn(standin: Standin, run: Run) -> None:
    ids = standin.instances(3)
    standin.hold()

    async def main(client: greenapi.AsyncClient) -> None:
        calls = [asyncio.ensure_future(client.delete_instance(one)) for one in ids]
        await asyncio.sleep(0)
        await aside(standin.wait, held=1)
        calls[2].cancel()
        await asyncio.wait([calls[2]])
        standin.clear_faults()
        standin.release()
        assert all(result.ok for result in await asyncio.gather(*calls[:2]))

    run(main(greenapi.AsyncClient(standin.url, standin.token, max_in_flight=1)))
    assert standin.deleted() == set(ids[:2])


def test_loops_one_after_the_other(standin: Standin, client: greenapi.AsyncClient) -> None:
    ids = standin.instances(40)
    for number, id_instance in enumerate(ids):
        run = asyncio.run if number % 2 else run_other
        assert run(client.delete_instance(id_instance)).ok
    assert standin.deleted() == set(ids)


def test_loops_in_turn_in_one_thread(standin: Standin, client: greenapi.AsyncClient) -> None:
    ids = standin.instances(2)
    standin.hold()
    loops = [asyncio.new_event_loop(), other_loop()]
    calls = [loop.create_task(client.delete_instance(one)) for loop, one in zip(loops, ids)]
    for loop in loops * 2:
        loop.run_until_complete(asyncio.sleep(0))
    standin.wait(held=2)
    standin.release()
    for loop, call in zip(loops, calls):
        assert loop.run_until_complete(call).ok
        loop.close()
    assert standin.deleted() == set(ids)


def test_loops_in_many_threads(standin: Standin, client: greenapi.AsyncClient) -> None:
    ids = standin.instances(800)

    async def main(part: list[int]) -> list[greenapi.Result]:
        return await asyncio.gather(*map(client.delete_instance, part))

    with ThreadPoolExecutor(8) as threads:
        runs = [asyncio.run, run_other] * 4
        parts = [ids[number::8] for number in range(8)]
        results = threads.map(lambda run, part: run(main(part)), runs, parts)
        assert all(result.ok for part in results for result in part)
    assert standin.deleted() == set(ids)


def test_abandoned_loop_does_not_disturb_the_next(
    standin: Standin, client: greenapi.AsyncClient
) -> None:
    ids = standin.instances(2)
    standin.rule({"id": ids[0], "fault": {"hold": True}})
    loop = asyncio.new_event_loop()
    call = loop.create_task(client.delete_instance(ids[0]))
    loop.run_until_complete(asyncio.sleep(0))
    standin.wait(held=1)
    # As a program does that stops without waiting for its tasks.
    call.cancel()
    loop.run_until_complete(asyncio.wait([call]))
    loop.close()
    assert asyncio.run(client.delete_instance(ids[1])).ok
    standin.wait(open=1)
    assert standin.deleted() == {ids[1]}


def test_close(standin: Standin) -> None:
    async def main() -> None:
        async with greenapi.AsyncClient(standin.url, standin.token) as client:
            assert not client.closed
        assert client.closed
        await client.aclose()
        with pytest.raises(RuntimeError, match="this AsyncClient is closed"):
            await client.delete_instance(1)
        with pytest.raises(RuntimeError, match="this AsyncClient is closed"):
            client.delete_instances([1])

    asyncio.run(main())


# --- bulk ---


async def from_afar(ids: Iterator[int]) -> AsyncIterator[int]:
    for number in ids:
        if number % 10 == 0:
            await asyncio.sleep(0)
        yield number


@pytest.mark.parametrize("source", [iter, lambda ids: from_afar(iter(ids))], ids=["sync", "async"])
def test_bulk(standin: Standin, client: greenapi.AsyncClient, run: Run, source: Any) -> None:
    ids = standin.instances(3000)
    wanted = [*ids, ids[-1] + 1, 0]

    async def main() -> list[greenapi.Result]:
        return [result async for result in client.delete_instances(source(wanted))]

    results = run(main())
    assert sorted(result.id_instance for result in results) == sorted(wanted)
    failed = {one.id_instance: one.status for one in results if not one.ok}
    assert failed == {ids[-1] + 1: Status.NOT_FOUND, 0: Status.INVALID_ARGUMENT}
    assert standin.deleted() == set(ids)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_ids_are_drawn_only_as_fast_as_needed(standin: Standin, run: Run, is_async: bool) -> None:
    ids = Counted(1_000_000)
    standin.instances(200)

    async def main() -> None:
        source: Any = from_afar(iter(ids)) if is_async else ids
        async with greenapi.AsyncClient(standin.url, standin.token, max_in_flight=5) as client:
            results = client.delete_instances(source)
            taken = 0
            async for _ in results:
                taken += 1
                assert ids.drawn <= taken + 10
                if taken == 100:
                    break
            await results.aclose()
            assert ids.drawn <= 110

    run(main())


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_leaving_early_cancels_the_rest(standin: Standin, run: Run, is_async: bool) -> None:
    ids = standin.instances(100)
    standin.rule({"skip": 1, "fault": {"hold": True}})

    async def main(client: greenapi.AsyncClient) -> None:
        source: Any = from_afar(iter(ids)) if is_async else ids
        async for result in client.delete_instances(source):
            assert result.ok
            await aside(standin.wait, held=10)
            break
        await aside(standin.wait, open=1)

    run(main(greenapi.AsyncClient(standin.url, standin.token, max_in_flight=10)))
    standin.forgotten()
    standin.release()
    assert len(standin.deleted()) == 1


def test_cancelling_a_bulk_run(standin: Standin, client: greenapi.AsyncClient, run: Run) -> None:
    ids = standin.instances(10)
    standin.hold()

    async def consume() -> None:
        async for _ in client.delete_instances(ids):
            raise AssertionError("nothing can have been answered")

    async def main() -> None:
        task = asyncio.ensure_future(consume())
        await asyncio.sleep(0)
        await aside(standin.wait, held=10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await aside(standin.wait, open=0)

    run(main())
    standin.release()
    assert standin.deleted() == set()


def test_async_ids_hold_no_result_back(
    standin: Standin, client: greenapi.AsyncClient, run: Run
) -> None:
    ids = standin.instances(2)

    async def main() -> None:
        first_is_done = asyncio.Event()

        async def slow() -> AsyncIterator[int]:
            yield ids[0]
            # Would wait for ever if the result were held back until the next id.
            await first_is_done.wait()
            yield ids[1]

        async for result in client.delete_instances(slow()):
            assert result.ok
            first_is_done.set()

    run(main())
    assert standin.deleted() == set(ids)


def test_leaving_early_ends_the_source(
    standin: Standin, client: greenapi.AsyncClient, run: Run
) -> None:
    ids = standin.instances(1)

    async def main() -> None:
        ended = asyncio.Event()

        async def endless() -> AsyncIterator[int]:
            try:
                yield ids[0]
                await asyncio.Event().wait()
            finally:
                ended.set()

        results = client.delete_instances(endless())
        assert (await results.__anext__()).ok
        await results.aclose()
        assert ended.is_set()

    run(main())


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_error_of_the_ids_comes_after_the_results(
    standin: Standin, client: greenapi.AsyncClient, run: Run, is_async: bool
) -> None:
    ids = standin.instances(20)

    def broken() -> Iterator[int]:
        yield from ids
        raise LookupError("the database is gone")

    async def main() -> None:
        results = []
        source: Any = from_afar(broken()) if is_async else broken()
        with pytest.raises(LookupError, match="the database is gone"):
            async for result in client.delete_instances(source):
                results.append(result)
        assert len(results) == 20

    run(main())
    assert standin.deleted() == set(ids)


def test_ids_must_be_iterable(client: greenapi.AsyncClient) -> None:
    with pytest.raises(TypeError):
        client.delete_instances(7)  # type: ignore[arg-type]


def test_the_loop_stays_alive(standin: Standin, client: greenapi.AsyncClient, run: Run) -> None:
    """Other tasks of the loop have their turns during a bulk run."""
    ids = standin.instances(2000)

    async def main() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        async for _ in client.delete_instances(ids):
            pass
        task.cancel()
        return turns

    assert run(main()) > 10


def test_tqdm(
    standin: Standin, client: greenapi.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    ids = standin.instances(50)

    async def main() -> None:
        async for result in tqdm(client.delete_instances(ids), total=len(ids)):
            assert result.ok

    asyncio.run(main())
    assert "50/50" in capfd.readouterr().err
    assert standin.deleted() == set(range(FIRST_ID, FIRST_ID + 50))


def test_an_interrupt_before_the_ids_are_drawn_leaves_nothing_to_wait_for(
    client: greenapi.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupt(Exception):
        """What a signal handler raises."""

    def spawn(*_: object) -> Callable[[], None]:
        raise Interrupt

    async def source() -> AsyncIterator[int]:
        yield FIRST_ID

    async def main() -> None:
        results = client.delete_instances(source())
        with pytest.raises(Interrupt):
            await results.__anext__()
        await asyncio.wait_for(results.aclose(), 10)

    monkeypatch.setattr(_async._Asyncio, "spawn", spawn)
    asyncio.run(main())
