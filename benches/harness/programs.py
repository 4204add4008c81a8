"""Starts what is measured and what it is measured against."""

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

# Long enough for the slowest contender on a slow machine, short enough for a hang to be noticed.
TIMEOUT = 600

TOKEN = "gac.0123456789abcdef0123456789abcdef0123456789abcdef01"


# Where servers and contenders run, as `taskset` takes it: set by `pinned`.
_SERVER_CORES = _CLIENT_CORES = None


@contextlib.contextmanager
def pinned(server, client):
    """Runs what is started inside on these cores, as numbers like "0" or "0,1".

    Left to itself the scheduler puts client and server on one core in one run and on two in the
    next, and a figure says more about that than about the library.
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
    """A program that is measured did not do what it should."""


def environment(tools, ca_file=None):
    """The environment of the contenders: nothing of the user's proxies or certificates.

    ``ca_file`` becomes what everybody trusts, by the variables that they look at; libcurl and
    greenapi look at none and are told by their contenders.
    """
    unwanted = {"proxy", "cert", "bundle"}
    variables = {
        name: value
        for name, value in os.environ.items()
        if not any(word in name.lower() for word in unwanted)
    }
    variables["GREENAPI_LIBRARY"] = str(tools.library)
    variables["PYTHONPATH"] = str(build.ROOT / "bindings" / "python" / "src")
    # Without compiled modules every start would compile them; the source tree stays clean.
    variables["PYTHONPYCACHEPREFIX"] = str(build.OUT / "pycache")
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    if ca_file is not None:
        variables["SSL_CERT_FILE"] = variables["REQUESTS_CA_BUNDLE"] = ca_file
    return variables


def run(tools, command, *arguments, ca_file=None, check=True):
    """Runs a contender and returns what it printed."""
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
        raise Failed(f"{' '.join(command)}: no end after {TIMEOUT} s") from None
    if finished.returncode != 0:
        raise Failed(f"{' '.join(command)}: {finished.stderr.strip() or finished.returncode}")
    if check and finished.stderr:
        print(finished.stderr, file=sys.stderr, end="")
    return finished.stdout


def figures(tools, command, *arguments, ca_file=None):
    """Runs a contender that prints figures; every one of its calls must have worked."""
    result = json.loads(run(tools, command, *arguments, ca_file=ca_file))
    if result["failed"]:
        raise Failed(f"{' '.join(command)}: {result['failed']} of {result['calls']} calls failed")
    return result


def interleave(rounds, contenders):
    """Runs each contender once per round, A B C A B C, so that a busy minute hits all alike.

    ``contenders`` maps a name to a function that returns figures; returns a `Series` of each.
    """
    series = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, measure in contenders.items():
            series[name].append(measure())
        print(f"  round {number} of {rounds}", file=sys.stderr, flush=True)
    return {name: Series(rounds) for name, rounds in series.items()}


class Series:
    """What one contender did, round by round."""

    def __init__(self, rounds):
        self.rounds = rounds

    def median(self, metric):
        """The median of the rounds. A metric is the name of a figure, or a function of them."""
        return statistics.median(self.values(metric))

    def values(self, metric):
        """One value a round."""
        return [metric(r) if callable(metric) else r[metric] for r in self.rounds]

    def ratio(self, other, metric):
        """How many times as much as ``other``: the median of the ratios within each round."""
        pairs = zip(self.values(metric), other.values(metric), strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def rate(result):
    """Calls per second."""
    return result["calls"] / result["seconds"]


def cpu_us(result):
    """Microseconds of processor time per call."""
    return result["cpu_seconds"] / result["calls"] * 1e6


def peak_mib(result):
    """The most memory that the process had, in MiB."""
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
    # It ends with its input, so none is left behind when this is killed.
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
    """A running stand-in: where it is, and its control interface."""

    def __init__(self, endpoints):
        self.http = endpoints["http"]
        self.https = endpoints["https"]
        self.https_h1 = endpoints["https_h1"]
        self.ca_file = endpoints["ca_file"]
        self.refused = endpoints["traps"]["refused"]
        self._control = endpoints["control"]

    def control(self, method, path, body=None):
        """Sends something to the control interface and returns its answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._control + path, data, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=TIMEOUT) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise Failed(f"stand-in: {method} {path}: {error.read().decode()}") from None

    def reset(self, first=1, count=0, fault=None, times=None):
        """Begins anew: only these logged-out instances, and a fault for deletions."""
        self.control("POST", "/reset")
        self.control("DELETE", "/instances")
        if count:
            instances = {"first": first, "count": count, "state": "notAuthorized"}
            self.control("POST", "/instances", instances)
        if fault:
            rule = {"method": "delete", "fault": fault, "times": times}
            self.control("POST", "/faults", [rule])

    def relay(self, url, delay_ms):
        """The URL of a relay that delays each way to ``url``."""
        port = url.rsplit(":", 1)[1]
        body = {"target": f"127.0.0.1:{port}", "delay_ms": delay_ms}
        address = self.control("POST", "/relay", body)["address"]
        return f"https://localhost:{address.rsplit(':', 1)[1]}"

    def deleted(self):
        """The ids that really were deleted."""
        return {row["id"] for row in self.control("GET", "/ledger")}


def wrk(url, seconds, connections):
    """wrk's figures: what a program that does nothing else can do. It has no count to stop at."""
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
