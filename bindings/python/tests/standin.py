"""The stand-in of the remote API, as the tests drive it."""

import http.client
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

FIRST_ID = 2_000_000_001


class Standin:
    """A running stand-in: its addresses, and its control interface as methods.

    Its own README explains the faults.
    """

    def __init__(self, program: str) -> None:
        # The stand-in ends with its standard input, so it cannot outlive the tests.
        self._process = subprocess.Popen(
            [program, "--instances", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        start = json.loads(self._process.stdout.readline())
        self.url: str = start["http"]
        self.https_url: str = start["https"]
        self.ca_file: str = start["ca_file"]
        self.token: str = start["token"]
        self.traps: dict[str, str] = start["traps"]
        self.proxy_http: str = start["proxy_http"]
        self._control = urlsplit(start["control"])

    def stop(self) -> None:
        self._process.communicate()

    def environment(self, **more: str) -> dict[str, str]:
        """The environment for a program that uses this stand-in."""
        source = str(Path(__file__).parents[1] / "src")
        names = ("PATH", "HOME", "SYSTEMROOT")
        inherited = {name: os.environ[name] for name in names if name in os.environ}
        return {
            **inherited,
            "PYTHONPATH": source,
            "GREENAPI_LIBRARY": os.environ.get("GREENAPI_LIBRARY", ""),
            "GREENAPI_URL": self.url,
            "GREENAPI_TOKEN": self.token,
            **more,
        }

    def instances(self, count: int, state: str = "notAuthorized") -> list[int]:
        """Makes so many instances; returns their ids."""
        self._post("/instances", {"first": FIRST_ID, "count": count, "state": state})
        return list(range(FIRST_ID, FIRST_ID + count))

    def add(self, instances: list[dict[str, Any]]) -> None:
        """Adds instances, in the stand-in's format."""
        self._post("/instances", instances)

    def fault(self, **fault: Any) -> None:
        """Applies a fault to every deletion from now on."""
        self.rule({"fault": fault})

    def rule(self, rule: dict[str, Any]) -> None:
        """Adds a rule for deletions, in the stand-in's format."""
        self._post("/faults", [{"method": "delete", **rule}])

    def clear_faults(self) -> None:
        self._ask("DELETE", "/faults")

    def hold(self) -> None:
        """Holds every deletion before it is carried out, until `release`."""
        self.fault(hold=True)

    def release(self) -> None:
        self._post("/release", {})

    def wait(self, **until: int) -> None:
        """Waits until so many deletions are ``received`` or ``held``, or at most ``open``."""
        # Less than the timeout of the request, whose error would hide this one.
        query = "&".join(f"{name}={number}" for name, number in until.items()) + "&timeout_ms=15000"
        status, answer = self._ask("GET", f"/wait?{query}")
        assert status == 200, answer

    def forgotten(self) -> None:
        """Waits until no request is held any more, because their clients have left."""
        end = time.monotonic() + 30
        while self.stats()["held"]:
            assert time.monotonic() < end, self.stats()
            time.sleep(0.01)

    def deleted(self) -> set[int]:
        """The ids that were really deleted."""
        return {row["id"] for row in self._get("/ledger")}

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self._get("/stats")
        return stats

    def arrivals(self) -> list[dict[str, int]]:
        arrivals: list[dict[str, int]] = self._get("/arrivals")
        return arrivals

    def _get(self, path: str) -> Any:
        status, answer = self._ask("GET", path)
        assert status == 200, answer
        return answer

    def _post(self, path: str, body: Any) -> None:
        status, answer = self._ask("POST", path, json.dumps(body))
        assert status == 200, answer

    def _ask(self, method: str, path: str, body: Optional[str] = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self._control.netloc)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()
