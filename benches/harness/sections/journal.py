"""The cost of a journal, and the time to open a journal of a million deletions."""

import contextlib
import os
import tempfile
import zlib
from pathlib import Path

import build
import programs
from programs import TOKEN, cpu_us, peak_mib, rate
from section import Section, aim, number, table

CALLS = 60_000
MILLION = 1_000_000
FIRST = 1_000_000_000


def measure(tools, quick):
    """Runs the section."""
    rounds = 1 if quick else 5
    count = CALLS // (20 if quick else 1)
    places = {"on the disk": build.OUT, "on tmpfs": Path("/dev/shm")}
    with contextlib.ExitStack() as stack:
        folders = {
            name: Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place)))
            for name, place in places.items()
        }
        with programs.pinned(server="0", client="1"), programs.server(tools) as url:

            def contender(in_flight, folder=None, **variables):
                def run():
                    with _variables(folder, **variables):
                        program = tools.c_program("greenapi")
                        arguments = "bulk", url, TOKEN, FIRST, count, in_flight
                        return programs.figures(tools, program, *arguments)

                return run

            series, shared = {}, {}
            contenders = {}
            for in_flight in (64, 1024):
                contenders[f"{in_flight} in flight, no journal"] = contender(in_flight)
                for name, folder in folders.items():
                    full = f"{in_flight} in flight, journal {name}"
                    contenders[full] = contender(in_flight, folder)
                    shared[full] = count / _syncs(tools, contender, in_flight, folder)
            series = programs.interleave(rounds, contenders)
        opened, each, size, ended = _open(tools, folders["on the disk"], quick)

    rows = [
        [
            name,
            number(one.median(rate)),
            number(one.median(cpu_us)),
            number(one.median(peak_mib)),
            number(shared[name]) if name in shared else "–",
        ]
        for name, one in series.items()
    ]
    text = (
        f"{count:,} deletions from C through a queue, {rounds} interleaved rounds, medians; the "
        "syncs are counted in a separate run.\n\n"
        + table(
            ["", "deletions/s", "CPU µs/deletion", "peak RSS MiB", "deletions per sync"],
            rows,
        )
        + f"\n\nA journal of {ended:,} ended deletions has {size / 1e6:.0f} MB.\n\n"
        + aim("It opens in under a second", f"{opened:.2f} s", opened < 1)
        + "\n"
        + aim("in under 64 bytes each at its peak", f"{each:.0f} bytes", each < 64)
    )
    return Section("With a journal", text)


@contextlib.contextmanager
def _variables(folder, **variables):
    """The environment for a new journal in this folder, with these variables."""
    if folder is not None:
        path = folder / "journal"
        path.unlink(missing_ok=True)
        variables["BENCH_JOURNAL"] = str(path)
        variables["SHIM_FILE"] = str(path)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def _syncs(tools, contender, in_flight, folder):
    counted = folder / "syncs"
    shim = str(build.journal_shim(tools))
    contender(in_flight, folder, LD_PRELOAD=shim, SHIM_SYNCS=str(counted))()
    return int(counted.read_text())


def _open(tools, folder, quick):
    """Seconds to open, and bytes per instance: the minimum of three runs with a warm disk cache."""
    url = "https://api.green-api.com"
    path = folder / "million"
    count = MILLION // (20 if quick else 1)
    moment = "2026-11-25T00:41:18.123Z"
    with path.open("wb") as file:
        lines = [f"greenapi-journal 1 {url}"]
        for instance in range(FIRST, FIRST + count):
            lines.append(f"{moment} begin {instance}")
            lines.append(f"{moment} end {instance} 0 200 OK")
        file.write(b"".join(b"%s %08x\n" % (t, zlib.crc32(t)) for t in map(str.encode, lines)))
    program = tools.c_program("greenapi")
    arguments = "open", url, TOKEN, FIRST, count, 64
    os.environ["BENCH_JOURNAL"] = str(path)
    try:
        opened = [programs.figures(tools, program, *arguments) for _ in range(3)]
    finally:
        del os.environ["BENCH_JOURNAL"]
    with _variables(folder):
        empty = programs.figures(tools, program, *arguments)
    each = (min(one["peak_rss_kib"] for one in opened) - empty["peak_rss_kib"]) * 1024 / count
    return min(one["seconds"] for one in opened), each, path.stat().st_size, count
