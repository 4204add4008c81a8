"""Deletions over TLS with the latency of a distant server, which a relay adds."""

import socket
import ssl
import statistics
import time

import programs
from programs import TOKEN
from section import Section, aim, table

# In both directions together. Connecting to the relay is not delayed, so only the TLS 1.3
# handshake's round trip takes this long.
ROUND_TRIP_MS = 50

BARE_EXCHANGES = 20

# (deletions, in flight): the allowed multiple of the ideal time.
LIMITS = {(1000, 50): 1.1, (20, 1): 1.05}


def measure(tools, quick):
    """Runs the section."""
    rounds = 1 if quick else 9
    with programs.standin(tools) as standin:
        relays = {
            "HTTP/2": standin.relay(standin.https, ROUND_TRIP_MS // 2),
            "HTTP/1.1": standin.relay(standin.https_h1, ROUND_TRIP_MS // 2),
        }
        cases = {
            f"{calls:,} deletions, {in_flight} in flight, {protocol}": (calls, in_flight, protocol)
            for calls, in_flight in LIMITS
            for protocol in relays
        }

        def contender(calls, in_flight, protocol):
            def run():
                standin.reset(1, calls)
                url = relays[protocol]
                command = tools.c_program("greenapi")
                return programs.figures(
                    tools, command, "bulk", url, TOKEN, 1, calls, in_flight, ca_file=standin.ca_file
                )

            return run

        def bare():
            standin.reset(1, BARE_EXCHANGES)
            return _bare(relays["HTTP/1.1"], standin.ca_file)

        everybody = {"bare": bare, **{name: contender(*case) for name, case in cases.items()}}
        series = programs.interleave(rounds, everybody)

    rows, aims = [], []
    handshake, exchange = (series["bare"].median(metric) for metric in ("handshake", "exchange"))
    for name, (calls, in_flight, _) in cases.items():
        steps = calls // in_flight
        seconds = series[name].median("seconds")
        nominal = (1 + steps) * ROUND_TRIP_MS / 1000
        ideals = [bare["handshake"] + steps * bare["exchange"] for bare in series["bare"].rounds]
        times = statistics.median(
            mine / ideal for mine, ideal in zip(series[name].values("seconds"), ideals, strict=True)
        )
        rows.append(
            [
                name,
                f"{seconds:.3f}",
                f"{statistics.median(ideals):.3f}",
                f"{times:.3f}",
                f"{seconds / nominal:.3f}",
            ]
        )
        limit = LIMITS[calls, in_flight]
        aims.append(aim(f"{name}: within {limit} times the ideal", f"{times:.3f}×", times <= limit))
    text = (
        f"From C over TLS through a relay with a round trip of {ROUND_TRIP_MS} ms, the first "
        f"connection included; {rounds} interleaved rounds, medians. The ideal is what a bare TLS "
        "socket does in the same round, without any HTTP library: its handshake "
        f"({handshake * 1000:.1f} ms) and one exchange after the other ({exchange * 1000:.1f} ms "
        "each: timers, the stand-in and the machine's load add to the relay's 50 ms).\n\n"
        + table(["", "seconds", "ideal", "÷ ideal", f"÷ exact {ROUND_TRIP_MS} ms rounds"], rows)
        + "\n\n"
        + "\n".join(aims)
    )
    return Section("Over a distance", text)


def _bare(url, ca_file):
    """The time of a handshake and of exchanges on one TLS socket, without an HTTP library."""
    host, port = url.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=ca_file)
    start = time.perf_counter()
    with (
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        handshake = time.perf_counter() - start
        start = time.perf_counter()
        for id_instance in range(1, BARE_EXCHANGES + 1):
            body = b'{"idInstance":%d}' % id_instance
            connection.sendall(
                b"POST /partner/deleteInstanceAccount/%b HTTP/1.1\r\nHost: %b\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (TOKEN.encode(), host.encode(), len(body), body)
            )
            answer = connection.recv(65536)
            if b'"deleteInstanceAccount":true' not in answer.replace(b" ", b""):
                raise programs.Failed(f"the stand-in answered {answer!r}")
        exchange = (time.perf_counter() - start) / BARE_EXCHANGES
    return {"handshake": handshake, "exchange": exchange}
