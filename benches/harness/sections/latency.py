"""Warm calls from C with 1 and 64 threads, compared with libcurl's easy interface."""

import functools

import programs
from programs import TOKEN, cpu_us, rate
from section import Section, aim, number, table

CONTENDERS = (
    ("greenapi_client_delete_instance", "greenapi", "warm"),
    ("greenapi_delete_instance", "greenapi", "warm-one-call"),
    ("libcurl, easy handle per thread", "libcurl", "warm"),
)


# (Core of the server, core of the client, description.)
CORES = (("0", "0", "server and client on one core"), ("0", "1", "a core each"))


def measure(tools, quick):
    """Runs the section."""
    rounds = 1 if quick else 7
    texts = []
    for server, client, where in CORES:
        with programs.pinned(server, client), programs.server(tools) as url:
            for threads, calls in ((1, 20_000), (64, 64_000)):
                calls //= 20 if quick else 1
                plan = (url, TOKEN, 1, calls, threads)
                series = programs.interleave(
                    rounds,
                    {
                        name: functools.partial(
                            programs.figures, tools, tools.c_program(program), way, *plan
                        )
                        for name, program, way in CONTENDERS
                    },
                )
                texts.append(_table(threads, where, calls, rounds, series))
    return Section("Warm calls from C", "\n\n".join(texts))


def _table(threads, where, calls, rounds, series):
    *ours, libcurl = series
    theirs = series[libcurl]
    rows, aims = [], []
    for name, one in series.items():
        latency = one.ratio(theirs, "median_us")
        cpu = one.ratio(theirs, cpu_us)
        rows.append(
            [
                f"`{name}`" if name in ours else name,
                number(one.median("median_us")),
                number(one.median(rate)),
                number(one.median(cpu_us)),
                f"{latency:.2f}",
                f"{cpu:.2f}",
            ]
        )
        if name in ours:
            aims.append(
                aim(
                    f"`{name}`, median latency at most 1.05 of libcurl's",
                    f"{latency:.2f}×",
                    latency <= 1.05,
                )
            )
    header = ["", "median µs", "calls/s", "CPU µs/call", "latency ÷ libcurl", "CPU ÷ libcurl"]
    who = "One thread" if threads == 1 else f"{threads} threads"
    return (
        f"### {who}, {where}\n\n{calls:,} calls, {rounds} interleaved rounds, medians.\n\n"
        f"{table(header, rows)}\n\n" + "\n".join(aims)
    )
