"""Deletes a list of instances with a fleet of Celery workers, at one rate for all of them.

    celery -A celery_fleet worker --concurrency 4     # on every machine of the fleet
    python celery_fleet.py ids.txt                    # once, anywhere; again after a failure

Settings, from the environment: GREENAPI_URL; GREENAPI_TOKEN (the workers' only: it never goes
through Redis); FLEET_REDIS (default redis://localhost:6379/0); FLEET_RATE, new requests per
second of the whole fleet (default 20); FLEET_RUN, the name under which the results are kept.

Redis is the fleet's journal: each id is noted before its deletion is sent, and its result when it
comes. So a second run deletes only ids that are not known to be gone, even when the first run lost
a worker or a machine. An id that was sent before, whose answer was lost, and that is not found now,
is gone.

This holds as far as Redis keeps the notes. With ``appendonly yes`` and ``appendfsync always`` a
note is on the disk before the deletion is sent, as with the ``journal`` option of a client. With
Redis's defaults a crash of Redis's machine loses the notes of the last second (or since the last
snapshot), and an id whose note was lost is reported as not found, though this fleet may have
deleted it.

Needs ``pip install greenapi celery redis``.
"""

import functools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from celery import Celery, group

import greenapi

REDIS = os.environ.get("FLEET_REDIS", "redis://localhost:6379/0")
RATE = float(os.environ.get("FLEET_RATE", "20"))
RESULTS = f"greenapi:{os.environ.get('FLEET_RUN', 'run')}:results"
PACE = f"greenapi:{os.environ.get('FLEET_RUN', 'run')}:pace"
BATCH = 50

app = Celery("celery_fleet", broker=REDIS, backend=REDIS)
app.conf.update(
    # Another worker repeats the batch of a worker that died; repeating is safe.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # A worker that fetches batches ahead would keep them from idle workers.
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)

# Returns the next free slot, in microseconds from now, by one clock for all: that of Redis.
NEXT_SLOT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local slot = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
redis.call('SET', KEYS[1], string.format('%.0f', slot + tonumber(ARGV[1])), 'EX', 60)
return slot - now
"""


@functools.cache
def client() -> greenapi.Client:
    """This process's client: made at the first batch, so after the fork of the worker."""
    return greenapi.Client(
        os.environ.get("GREENAPI_URL", "https://api.green-api.com"), os.environ["GREENAPI_TOKEN"]
    )


@functools.cache
def store() -> Any:
    """This process's connection to Redis."""
    return redis.Redis.from_url(REDIS, decode_responses=True)


@functools.cache
def next_slot() -> Any:
    """The pace's script, registered with Redis."""
    return store().register_script(NEXT_SLOT)


def keep(id_instance: int, status: str, effect: str, message: str = "") -> None:
    """Records the status of an instance."""
    record = {"status": status, "effect": effect, "message": message}
    store().hset(RESULTS, str(id_instance), json.dumps(record))


def kept(ids: list[int]) -> dict[int, dict[str, str]]:
    """The records of these instances."""
    records = store().hmget(RESULTS, [str(one) for one in ids])
    return {one: json.loads(record) for one, record in zip(ids, records) if record}


def paced(ids: list[int]) -> Iterator[int]:
    """Yields each id at its slot in the fleet's pace; the client draws them one by one."""
    for id_instance in ids:
        time.sleep(next_slot()(keys=[PACE], args=[round(1e6 / RATE)]) / 1e6)
        # Before the deletion is sent, so that a later process knows of it if this one dies.
        keep(id_instance, "SENT", "unknown")
        yield id_instance


@app.task  # type: ignore[untyped-decorator]
def delete(ids: list[int]) -> dict[str, int]:
    """Deletes a batch; returns how many there are of each effect."""
    before = kept(ids)
    left = [one for one in ids if before.get(one, {}).get("effect") != "deleted"]

    def note(result: greenapi.Result) -> None:
        effect = result.effect.name.lower()
        was_unknown = before.get(result.id_instance, {}).get("effect") == "unknown"
        if was_unknown and effect == "not_deleted":
            # An earlier deletion leads to "not found"; any other refusal says nothing about the
            # earlier deletion.
            found = result.status is not greenapi.Status.NOT_FOUND
            effect = "unknown" if found else "deleted"
        keep(result.id_instance, result.status.name, effect, result.message)

    results = client().delete_instances(paced(left))
    try:
        with results:
            for result in results:
                note(result)
    finally:
        # A batch that is stopped (by a time limit, say) still records its results.
        for result in results:
            note(result)
    return dict(Counter(record["effect"] for record in kept(ids).values()))


def main(path: str) -> int:
    """Spreads the ids of a file over the fleet and waits; returns the exit status."""
    ids = list(dict.fromkeys(int(line) for line in Path(path).read_text().split()))
    batches = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
    done = 0

    def show(_: str, counts: dict[str, int]) -> None:
        nonlocal done
        done += sum(counts.values())
        print(f"{done} of {len(ids)}", file=sys.stderr)

    group(delete.s(batch) for batch in batches).apply_async().get(callback=show)
    results = kept(ids)
    for id_instance, record in results.items():
        if record["effect"] != "deleted":
            print(f"{id_instance} {record['status']}: {record['message']}")
    effects = Counter(record["effect"] for record in results.values())
    print(
        f"{effects['deleted']} gone, {effects['not_deleted']} not deleted, "
        f"{effects['unknown']} unknown",
        file=sys.stderr,
    )
    return 3 if effects["unknown"] else 1 if effects["not_deleted"] else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: celery_fleet.py FILE")
    sys.exit(main(sys.argv[1]))
