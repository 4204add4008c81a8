"""60,000 deletions, 64 in flight, from every language."""

import programs
from programs import TOKEN, cpu_us, peak_mib, rate
from section import Section, aim, number, table

IN_FLIGHT = 64


def measure(tools, quick):
    """Runs the section."""
    rounds = 1 if quick else 5
    with programs.pinned(server="0", client="1"), programs.server(tools) as url:

        def contender(command, way="bulk", calls=60_000):
            def run():
                count = calls // (20 if quick else 1)
                return programs.figures(tools, command, way, url, TOKEN, 1, count, IN_FLIGHT)

            return run

        series = programs.interleave(
            rounds,
            {
                "wrk (the limit)": lambda: programs.wrk(url, 1 if quick else 2, IN_FLIGHT),
                "greenapi, C queue": contender(tools.c_program("greenapi")),
                "greenapi, C delete_instances": contender(
                    tools.c_program("greenapi"), "bulk-array"
                ),
                "greenapi, Go goroutines": contender(tools.go_program("greenapi")),
                "greenapi, Go DeleteInstances": contender(
                    tools.go_program("greenapi"), "bulk-iterator"
                ),
                "greenapi, Python iterator": contender(tools.python_program("greenapi_blocking")),
                "greenapi, Python async tasks": contender(tools.python_program("greenapi_async")),
                "greenapi, Python async iterator": contender(
                    tools.python_program("greenapi_async"), "bulk-iterator"
                ),
                "libcurl multi": contender(tools.c_program("libcurl")),
                "Go net/http, 64 goroutines": contender(tools.go_program("nethttp")),
                # Fewer calls, because these are slow; the figures are per deletion.
                "aiohttp, 64 tasks": contender(tools.python_program("with_aiohttp"), calls=20_000),
                "requests, 64 threads": contender(
                    tools.python_program("with_requests"), calls=4_000
                ),
            },
        )
    rows = [
        [
            name,
            number(one.median(rate)),
            number(one.median(cpu_us)),
            "–" if name.startswith("wrk") else number(one.median(peak_mib)),
        ]
        for name, one in series.items()
    ]
    text = (
        f"60,000 deletions (aiohttp 20,000, requests 4,000), {IN_FLIGHT} in flight, {rounds} "
        "interleaved rounds, medians. The server has one core and the contender the other.\n\n"
        + table(["", "deletions/s", "CPU µs/deletion", "peak RSS MiB"], rows)
        + "\n\n"
        + _aims(series)
    )
    shown = {name: one for name, one in series.items() if "delete_instances" not in name}
    return Section(
        "In bulk",
        text,
        {
            f"Deletions per second, {IN_FLIGHT} in flight": {
                name: one.median(rate) for name, one in shown.items()
            },
        },
    )


def _aims(series):
    queue, go = series["greenapi, C queue"], series["Go net/http, 64 goroutines"]
    per_second, twice = queue.median(rate), queue.ratio(go, rate)
    lines = [
        aim(
            "From C at least 100,000/s, or twice Go's net/http",
            f"{number(per_second)}/s, {twice:.2f}×",
            per_second >= 100_000 or twice >= 2,
        )
    ]
    for way in ("goroutines", "DeleteInstances"):
        ratio = series[f"greenapi, Go {way}"].ratio(go, rate)
        lines.append(aim(f"From Go ({way}) at least net/http's rate", f"{ratio:.2f}×", ratio >= 1))
    for way in ("iterator", "async tasks", "async iterator"):
        ratio = series[f"greenapi, Python {way}"].ratio(series["aiohttp, 64 tasks"], rate)
        lines.append(
            aim(f"From Python ({way}) at least five times aiohttp", f"{ratio:.1f}×", ratio >= 5)
        )
    return "\n".join(lines)
