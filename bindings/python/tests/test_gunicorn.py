"""gunicorn's prefork workers, with the library used in the master before it forks."""

import http.client
import os
import signal
import socket
import sys
from pathlib import Path

from programs import PATIENCE, not_on_windows, start
from standin import Standin

pytestmark = not_on_windows

APPLICATION = """
import os
import greenapi

url, token = os.environ["GREENAPI_URL"], os.environ["GREENAPI_TOKEN"]
client = greenapi.Client(url, token)
# In the master: its thread and its connections are there when the workers are forked.
client.delete_instance(int(os.environ["FIRST_ID"]))

def application(environ, start_response):
    one, other = map(int, environ["PATH_INFO"].strip("/").split("/"))
    client.delete_instance(one)
    greenapi.delete_instance(url, token, other)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def ask(path: str, url: str) -> str:
    """Sends a GET to a server behind a Unix socket."""
    connection = http.client.HTTPConnection("localhost", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(path)
    connection.request("GET", url, headers={"Connection": "close"})
    answer = connection.getresponse()
    body = answer.read().decode()
    assert answer.status == 200, body
    return body


def test_workers_use_what_the_master_made(standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "deleting.py").write_text(APPLICATION)
    first, *ids = standin.instances(41)
    bound = str(tmp_path / "socket")
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "3"]
    command += ["--bind", f"unix:{bound}", "--worker-tmp-dir", str(tmp_path), "deleting"]
    environment = {**os.environ, **standin.environment(), "FIRST_ID": str(first)}
    # Newer versions keep a socket in ~/.gunicorn.
    environment["HOME"] = str(tmp_path)
    with start(command, environment, cwd=tmp_path, stdout=None) as server:
        try:
            assert server.stderr is not None
            log = ""
            for line in server.stderr:
                log += line
                if log.count("Booting worker") == 3:
                    break
            assert log.count("Booting worker") == 3, log
            pids = {ask(bound, f"/{a}/{b}") for a, b in zip(ids[::2], ids[1::2])}
            assert str(server.pid) not in pids
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=PATIENCE)
    assert len(standin.deleted()) == 41
