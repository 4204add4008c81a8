"""Shared by the measured Python programs: arguments, clocks, and the output of results.

Arguments and output are those of the C programs; see ../c/measure.h.
"""

import json
import resource
import statistics
import sys
import time
from typing import NamedTuple


class Plan(NamedTuple):
    """The parsed command line."""

    way: str
    url: str
    token: str
    first_id: int
    calls: int
    concurrency: int

    @property
    def ids(self):
        """The instances to delete."""
        return range(self.first_id, self.first_id + self.calls)


def arguments():
    """Reads the command line."""
    if len(sys.argv) != 7:
        sys.exit(f"usage: {sys.argv[0]} WAY URL TOKEN FIRST_ID CALLS CONCURRENCY")
    way, url, token, *numbers = sys.argv[1:]
    return Plan(way, url, token, *map(int, numbers))


def no_such_way(plan):
    """Ends the program because of an unknown way."""
    sys.exit(f"no way {plan.way!r} in this program")


class Figures:
    """Measures a block of calls and prints its figures."""

    failed = 0
    latencies = ()

    def __init__(self, plan):
        self._calls = plan.calls

    def __enter__(self):
        self._before = self._now()
        return self

    def __exit__(self, exc_type, *_):
        if exc_type is not None:
            return
        seconds, cpu = (
            after - before for after, before in zip(self._now(), self._before, strict=True)
        )
        figures = {
            "calls": self._calls,
            "failed": self.failed,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "median_us": statistics.median(self.latencies or [0]) * 1e6,
            "peak_rss_kib": _peak_kib(),
        }
        print(json.dumps(figures))

    @staticmethod
    def _now():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return time.perf_counter(), usage.ru_utime + usage.ru_stime


def warm(plan, call):
    """Makes one call that is not measured, and then all calls one after the other.

    ``call`` returns whether the library reported success.
    """
    call(plan.first_id)
    with Figures(plan) as figures:
        figures.latencies = latencies = []
        for id_instance in plan.ids:
            start = time.perf_counter()
            figures.failed += not call(id_instance)
            latencies.append(time.perf_counter() - start)


async def warm_async(plan, call):
    """The same for a coroutine function."""
    await call(plan.first_id)
    with Figures(plan) as figures:
        figures.latencies = latencies = []
        for id_instance in plan.ids:
            start = time.perf_counter()
            figures.failed += not await call(id_instance)
            latencies.append(time.perf_counter() - start)


def print_word(id_instance, word, word_by_body, reason=""):
    """Prints one line of the way "truth".

    The line has the library's report, the report of a program that reads the API's flag in the
    body itself, and the reason.
    """
    print(id_instance, word, word_by_body, " ".join(str(reason).split()), sep="\t")


def word_by_flag(body):
    """The report of a program that reads the API's flag in the decoded JSON."""
    deleted = isinstance(body, dict) and body.get("deleteInstanceAccount") is True
    return "deleted" if deleted else "failed"


def _peak_kib():
    # ru_maxrss is not suitable: it includes the peak of the process that started this one.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
