"""``Client.delete_instances``: completeness, laziness, leaving early, failing ids."""

import threading
from collections.abc import Iterator

import pytest
from tqdm import tqdm

import greenapi
from greenapi import Status, _queue
from standin import FIRST_ID, Standin


class Counted:
    """Ids that know how many of them were drawn."""

    def __init__(self, count: int) -> None:
        self.drawn = 0
        self._count = count

    def __iter__(self) -> Iterator[int]:
        for number in range(self._count):
            self.drawn += 1
            yield FIRST_ID + number


def test_every_id_has_one_result(standin: Standin, client: greenapi.Client) -> None:
    ids = standin.instances(5000)
    results = list(client.delete_instances(ids))
    assert sorted(result.id_instance for result in results) == ids
    assert all(result.ok for result in results)
    assert standin.deleted() == set(ids)


def test_failures_are_results(standin: Standin, client: greenapi.Client) -> None:
    ids = standin.instances(10)
    standin.rule({"id": ids[3], "fault": {"status": 502}})
    wanted = [*ids, ids[-1] + 1, 0, -7, 2**62]
    results = {result.id_instance: result for result in client.delete_instances(wanted)}
    assert set(results) == set(wanted)
    failed = {id_instance: one.status for id_instance, one in results.items() if not one.ok}
    assert failed == {
        ids[3]: Status.SERVER_ERROR,
        ids[-1] + 1: Status.NOT_FOUND,
        0: Status.INVALID_ARGUMENT,
        -7: Status.INVALID_ARGUMENT,
        2**62: Status.INVALID_ARGUMENT,
    }
    with pytest.raises(greenapi.ServerError):
        results[ids[3]].raise_for_status()
    assert all(result.message for result in results.values() if not result.ok)


def test_nothing_to_do(client: greenapi.Client) -> None:
    assert list(client.delete_instances([])) == []


@pytest.mark.parametrize("bad", [None, 7, 7.0])
def test_ids_must_be_iterable(client: greenapi.Client, bad: object) -> None:
    with pytest.raises(TypeError):
        client.delete_instances(bad)  # type: ignore[arg-type]


def test_ids_are_drawn_only_as_fast_as_needed(standin: Standin) -> None:
    ids = Counted(1_000_000)
    standin.instances(200)
    with greenapi.Client(standin.url, standin.token, max_in_flight=5) as client:
        results = client.delete_instances(ids)
        assert ids.drawn == 0
        for taken in range(1, 101):
            next(results)
            assert ids.drawn <= taken + 10
        results.close()
        assert ids.drawn <= 110


def test_max_in_flight_is_used_in_full(standin: Standin) -> None:
    ids = standin.instances(100)
    standin.hold()
    with greenapi.Client(standin.url, standin.token, max_in_flight=20) as client:
        results = client.delete_instances(ids)
        first = threading.Thread(target=lambda: next(results))
        first.start()
        standin.wait(held=20)
        assert standin.stats()["in_flight_peak"] == 20
        standin.clear_faults()
        standin.release()
        first.join()
        assert len(list(results)) == 99


def test_slow_ids_hold_no_result_back(
    standin: Standin, client: greenapi.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Then every single id is slow.
    monkeypatch.setattr(_queue, "PATIENCE", 0)
    ids = standin.instances(128)
    seen: list[int] = []
    drawn = 0

    def slow() -> Iterator[int]:
        nonlocal drawn
        for id_instance in ids:
            if seen:
                return
            drawn += 1
            yield id_instance
            standin.wait(received=drawn)

    for result in client.delete_instances(slow()):
        seen.append(result.id_instance)
    assert sorted(seen) == ids[:drawn]
    # The window of 128 was not filled first.
    assert drawn < 128


def test_leaving_early_cancels_the_rest(standin: Standin) -> None:
    ids = standin.instances(100)
    standin.rule({"skip": 1, "fault": {"hold": True}})
    with greenapi.Client(standin.url, standin.token, max_in_flight=10) as client:
        for result in client.delete_instances(ids):
            assert result.ok
            standin.wait(held=10)
            break
        # The cancelled requests' connections end, and nothing new is sent.
        standin.wait(open=0)
        standin.clear_faults()
        standin.release()
        assert client.delete_instance(ids[-1]).ok
    assert standin.stats()["received"] <= 12


def test_error_of_the_ids_comes_after_the_results(
    standin: Standin, client: greenapi.Client
) -> None:
    ids = standin.instances(20)

    def broken() -> Iterator[int]:
        yield from ids
        raise LookupError("the database is gone")

    results: list[greenapi.Result] = []
    with pytest.raises(LookupError, match="the database is gone"):
        for result in client.delete_instances(broken()):
            results.append(result)
    assert [one.status for one in results] == [Status.OK] * 20
    assert standin.deleted() == set(ids)


def test_interrupt_of_the_ids_cancels(standin: Standin, client: greenapi.Client) -> None:
    ids = standin.instances(2)
    standin.hold()

    def interrupted() -> Iterator[int]:
        yield from ids
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(client.delete_instances(interrupted()))
    standin.wait(open=0)
    assert standin.deleted() == set()


def test_closing_the_client_lets_the_loop_go_on(standin: Standin) -> None:
    ids = standin.instances(300)
    client = greenapi.Client(standin.url, standin.token, max_in_flight=5)
    results = client.delete_instances(ids)
    next(results)
    client.close()
    assert len(list(results)) == 299


def test_two_loops_at_once(standin: Standin, client: greenapi.Client) -> None:
    ids = standin.instances(200)
    pairs = list(zip(client.delete_instances(ids[:100]), client.delete_instances(ids[100:])))
    assert {one.id_instance for one, _ in pairs} == set(ids[:100])
    assert {other.id_instance for _, other in pairs} == set(ids[100:])


def test_tqdm(standin: Standin, client: greenapi.Client, capfd: pytest.CaptureFixture[str]) -> None:
    ids = standin.instances(50)
    assert all(result.ok for result in tqdm(client.delete_instances(ids), total=len(ids)))
    assert "50/50" in capfd.readouterr().err
