"""The memory of ten thousand requests in flight, and of a million waiting submissions."""

import concurrent.futures

import programs
from programs import TOKEN, peak_mib
from section import Section, aim, table

# Common limits on descriptors (20,000) allow 10,000 connections.
IN_FLIGHT = 10_000
QUEUED = 1_000_000

# "A few dozen bytes".
BYTES_PER_QUEUED = 100


def measure(tools, quick):
    """Runs the section."""
    count = IN_FLIGHT // (20 if quick else 1)
    queued = QUEUED // (20 if quick else 1)
    program = tools.c_program("memory")

    with programs.server(tools, hold=count) as url:
        http1 = programs.figures(tools, program, "in-flight", url, TOKEN, 1, count)
    http2, connections = _http2(tools, program, count)
    with programs.server(tools, hold=queued) as url:
        waiting = programs.figures(tools, program, "queued", url, TOKEN, 1, queued)

    each = (waiting["peak_rss_kib"] - waiting["before_kib"]) * 1024 / queued
    rows = [
        [
            f"{count:,} in flight, HTTP/1.1",
            f"{peak_mib(http1):.1f}",
            http1["threads"],
            f"{count:,}",
        ],
        [
            f"{count:,} in flight, HTTP/2 over TLS",
            f"{peak_mib(http2):.1f}",
            http2["threads"],
            connections,
        ],
        [f"{queued:,} queued behind 64", f"{peak_mib(waiting):.1f}", waiting["threads"], 64],
    ]
    threads = max(row[2] for row in rows)
    text = (
        "From one thread of a C program through one queue; the server holds every request until "
        "all of them are there, and over HTTP/2 allows that many streams. The peak is of the whole "
        "process.\n\n"
        + table(["", "peak RSS MiB", "library threads", "connections"], rows)
        + "\n\n"
        + "\n".join(
            [
                aim(
                    f"{count:,} over HTTP/1.1 under 250 MiB",
                    f"{peak_mib(http1):.1f} MiB",
                    peak_mib(http1) < 250,
                ),
                aim(
                    f"{count:,} over HTTP/2 under 60 MiB",
                    f"{peak_mib(http2):.1f} MiB",
                    peak_mib(http2) < 60,
                ),
                aim("At most 4 library threads", threads, threads <= 4),
                aim(
                    f"A few dozen bytes (under {BYTES_PER_QUEUED}) for what waits",
                    f"{each:.0f} bytes",
                    each < BYTES_PER_QUEUED,
                ),
            ]
        )
    )
    return Section("Memory", text)


def _http2(tools, program, count):
    with programs.standin(tools) as standin, concurrent.futures.ThreadPoolExecutor() as pool:
        standin.reset(1, count, fault={"hold": True})
        # Otherwise most requests would wait in the client for a stream instead of being in flight.
        standin.control("POST", "/settings", {"max_concurrent_streams": count})
        run = pool.submit(
            programs.figures,
            tools,
            program,
            "in-flight",
            standin.https,
            TOKEN,
            1,
            count,
            ca_file=standin.ca_file,
        )
        try:
            standin.control("GET", f"/wait?held={count}&timeout_ms=120000")
        finally:
            # Without the release the program would report its failure only after its timeout.
            standin.control("POST", "/release")
        result = run.result()
        stats = standin.control("GET", "/stats")
        if stats["http_versions"].get("HTTP/2", 0) < count:
            raise programs.Failed(f"not everything went over HTTP/2: {stats['http_versions']}")
        return result, stats["connections"]["accepted"]
