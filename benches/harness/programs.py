"""Starts the measured programs and the servers."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

import build

# Long enough for the slowest program on a slow machine, short enough to notice a hang.
TIMEOUT = 600

TOKEN = "gac.0123456789abcdef0123456789abcdef0123456789abcdef01"


# The cores of the servers and the measured programs, in the syntax of `taskset`; set by `pinned`.
_SERVER_CORES = _CLIENT_CORES = None


@contextlib.contextmanager
def pinned(server, client):
    """Runs the programs that are started inside on these cores, such as "0" or "0,1".

    Otherwise the scheduler puts client and server on one core in one run and on two in the next,
    which affects the figures more than the library does.
    """
    global _SERVER_CORES, _CLIENT_CORES
    before = _SERVER_CORES, _CLIENT_CORES
    _SERVER_CORES, _CLIENT_CORES = server, client
    try:
        yield
    finally:
        _SERVER_CORES, _CLIENT_CORES = before


def _on(cores, command):
    return command if cores is None else ["taskset", "--cpu-list", cores, *command]


class Failed(Exception):
    """A measured program failed or gave a wrong result."""


def environment(tools, ca_file=None):
    """The environment of the measured programs, without the user's proxies and certificates.

    Each library reads the variable that it knows and trusts ``ca_file``. libcurl and greenapi's
    clients read none; their programs pass the file as an option.
    """
    unwanted = {"proxy", "cert", "bundle"}
    variables = {
        name: value
        for name, value in os.environ.items()
        if not any(word in name.lower() for word in unwanted)
    }
    variables["GREENAPI_LIBRARY"] = str(tools.library)
    variables["PYTHONPATH"] = str(build.ROOT / "bindings" / "python" / "src")
    # Compiled modules are cached, so that not every start compiles them, outside the source tree.
    variables["PYTHONPYCACHEPREFIX"] = str(build.OUT / "pycache")
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    if ca_file is not None:
        variables["SSL_CERT_FILE"] = variables["REQUESTS_CA_BUNDLE"] = ca_file
    return variables


def run(tools, command, *arguments, ca_file=None, check=True):
    """Runs a measured program and returns its output."""
    command = [*command, *map(str, arguments)]
    try:
        finished = subprocess.run(
            _on(_CLIENT_CORES, command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(tools, ca_file),
            timeout=TIMEOUT,
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)}: still running after {TIMEOUT} s") from None
    if finished.returncode != 0:
        raise Failed(f"{' '.join(command)}: {finished.stderr.strip() or finished.returncode}")
    if check and finished.stderr:
        print(finished.stderr, file=sys.stderr, end="")
    return finished.stdout


def figures(tools, command, *arguments, ca_file=None):
    """Runs a program that prints figures. Every one of its calls must succeed."""
    result = json.loads(run(tools, command, *arguments, ca_file=ca_file))
    if result["failed"]:
        raise Failed(f"{' '.join(command)}: {result['failed']} of {result['calls']} calls failed")
    return result


def interleave(rounds, contenders):
    """Runs each contender once per round, A B C A B C, so that a busy minute affects all alike.

    ``contenders`` maps a name to a function that returns figures. Returns a `Series` for each.
    """
    series = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, measure in contenders.items():
            series[name].append(measure())
        print(f"  round {number} of {rounds}", file=sys.stderr, flush=True)
    return {name: Series(rounds) for name, rounds in series.items()}


class Series:
    """The figures of one contender in all rounds."""

    def __init__(self, rounds):
        self.rounds = rounds

    def median(self, metric):
        """The median of the rounds. A metric is a figure's name or a function of the figures."""
        return statistics.median(self.values(metric))

    def values(self, metric):
        """The value of each round."""
        return [metric(r) if callable(metric) else r[metric] for r in self.rounds]

    def ratio(self, other, metric):
        """The ratio to ``other``: the median of the ratios within each round."""
        pairs = zip(self.values(metric), other.values(metric), strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def rate(result):
    """Calls per second."""
    return result["calls"] / result["seconds"]


def cpu_us(result):
    """Microseconds of processor time per call."""
    return result["cpu_seconds"] / result["calls"] * 1e6


def peak_mib(result):
    """The peak memory of the process in MiB."""
    return result["peak_rss_kib"] / 1024


@contextlib.contextmanager
def server(tools, hold=None):
    """The fast loopback server; yields its URL."""
    command = [str(tools.server)] + (["--hold", str(hold)] if hold else [])
    with _service(command) as line:
        yield f"http://127.0.0.1:{line.strip()}"


@contextlib.contextmanager
def standin(tools):
    """The stand-in of the API; yields a `Standin`."""
    with _service([str(tools.standin), "--token", TOKEN]) as line:
        yield Standin(json.loads(line))


@contextlib.contextmanager
def _service(command):
    # The server ends when its input is closed, so none is left behind when this program is killed.
    with subprocess.Popen(
        _on(_SERVER_CORES, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            if not line:
                raise Failed(f"{command[0]} did not start")
            yield line
        finally:
            process.stdin.close()


class Standin:
    """A running stand-in: its addresses, and its control interface."""

    def __init__(self, endpoints):
        self.http = endpoints["http"]
        self.https = endpoints["https"]
        self.https_h1 = endpoints["https_h1"]
        self.ca_file = endpoints["ca_file"]
        self.refused = endpoints["traps"]["refused"]
        self._control = endpoints["control"]

    def control(self, method, path, body=None):
        """Sends a request to the control interface and returns the answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._control + path, data, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=TIMEOUT) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise Failed(f"stand-in: {method} {path}: {error.read().decode()}") from None

    def reset(self, first=1, count=0, fault=None, times=None):
        """Resets the stand-in to these logged-out instances and a fault for deletions."""
        self.control("POST", "/reset")
        self.control("DELETE", "/instances")
        if count:
            instances = {"first": first, "count": count, "state": "notAuthorized"}
            self.control("POST", "/instances", instances)
        if fault:
            rule = {"method": "delete", "fault": fault, "times": times}
            self.control("POST", "/faults", [rule])

    def relay(self, url, delay_ms):
        """The URL of a relay to ``url`` that delays both directions."""
        port = url.rsplit(":", 1)[1]
        body = {"target": f"127.0.0.1:{port}", "delay_ms": delay_ms}
        address = self.control("POST", "/relay", body)["address"]
        return f"https://localhost:{address.rsplit(':', 1)[1]}"

    def deleted(self):
        """The ids of the instances that were really deleted."""
        return {row["id"] for row in self.control("GET", "/ledger")}


def wrk(url, seconds, connections):
    """The figures of wrk, which only sends requests. It runs for a time, not a number of calls."""
    script = build.OUT / "post.lua"
    script.write_text(
        'wrk.method = "POST"\n'
        "wrk.body = '{\"idInstance\":1101000001}'\n"
        'wrk.headers["Content-Type"] = "application/json"\n'
    )
    url = f"{url}/partner/deleteInstanceAccount/{TOKEN}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    command = _on(_CLIENT_CORES, command)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or "Non-2xx" in output:
        raise Failed(f"wrk: {output}")
    words = output.split()
    return {
        "calls": int(words[words.index("requests") - 1]),
        "seconds": float(words[words.index("in") + 1].removesuffix("s,")),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }


def stopwatch(action):
    """Seconds that ``action`` takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
