"""The command, through pipes and through a terminal."""

import json
import os
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Optional

import pytest

import greenapi
from programs import (
    INTERRUPTIBLE,
    PATIENCE,
    WINDOWS,
    finish,
    not_on_windows,
    press_ctrl_c,
    run,
    start,
)
from standin import Standin

if sys.platform != "win32":
    import fcntl
    import pty
    import termios

COMMAND = [sys.executable, "-m", "greenapi"]
INTERRUPTIBLE_COMMAND = (
    [
        sys.executable,
        "-c",
        f"{INTERRUPTIBLE}\nimport sys\nfrom greenapi.__main__ import main\nsys.exit(main())",
    ]
    if WINDOWS
    else COMMAND
)
# Detached from the terminal that the tests themselves may run on.
DETACHED: dict[str, Any] = {"start_new_session": True}
if sys.platform == "win32":
    DETACHED = {"creationflags": subprocess.DETACHED_PROCESS}


def greenapi_command(
    standin: Standin, *arguments: str, stdin: str = "", **environment: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments],
        env=standin.environment(**environment),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **DETACHED,
    )


def delete(
    standin: Standin, *arguments: str, stdin: str = "", **environment: str
) -> "subprocess.CompletedProcess[str]":
    return greenapi_command(standin, "delete", *arguments, stdin=stdin, **environment)


def test_version(standin: Standin) -> None:
    done = greenapi_command(standin, "--version")
    assert (done.returncode, done.stdout) == (0, f"greenapi {greenapi.__version__}\n")


def test_help_explains_the_exit_status(standin: Standin) -> None:
    done = delete(standin, "--help")
    assert done.returncode == 0
    assert "Exit status:" in done.stdout
    assert "130" in done.stdout
    assert "--token" not in done.stdout


# --- output ---


def test_lines(standin: Standin) -> None:
    ids = standin.instances(3)
    done = delete(standin, "--yes", *map(str, ids))
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == [f"{one} OK" for one in ids]
    assert "3 gone, 0 not deleted, 0 unknown, 0 not started, of 3" in done.stderr
    assert standin.deleted() == set(ids)


def test_failures(standin: Standin) -> None:
    ids = standin.instances(3)
    standin.rule({"id": ids[0], "fault": {"body": '{"deleteInstanceAccount":false}'}})
    done = delete(standin, "--yes", *map(str, ids))
    assert done.returncode == 1
    assert f"{ids[0]} REJECTED: " in done.stdout
    assert f"not deleted: {ids[0]}\n" in done.stderr
    assert standin.deleted() == set(ids[1:])
    # Unknown weighs more than failed.
    standin.rule({"id": ids[1], "fault": {"body": "<html>"}})
    done = delete(standin, "--yes", *map(str, ids[:2]))
    assert done.returncode == 3
    assert f"unknown, run again: {ids[1]}\n" in done.stderr


def test_json(standin: Standin) -> None:
    ids = standin.instances(3)
    standin.rule({"id": ids[0], "fault": {"body": "<html>"}})
    standin.rule({"id": ids[1], "fault": {"status": 403}})
    done = delete(standin, "--yes", "--json", *map(str, ids))
    assert done.returncode == 3
    *lines, summary = [json.loads(line) for line in done.stdout.splitlines()]
    by_id = {line["id_instance"]: line for line in lines}
    assert set(by_id) == set(ids)
    assert {one: (line["status"], line["effect"]) for one, line in by_id.items()} == {
        ids[0]: ("BAD_RESPONSE", "unknown"),
        ids[1]: ("FORBIDDEN", "not_deleted"),
        ids[2]: ("OK", "deleted"),
    }
    assert by_id[ids[1]]["code"] == by_id[ids[1]]["http_status"] == 403
    assert by_id[ids[1]]["attempts"] == 1
    assert by_id[ids[1]]["message"]
    assert summary == {
        "gone": 1,
        "not_deleted": [ids[1]],
        "unknown": [ids[0]],
        "not_started": 0,
        "interrupted": False,
    }


def test_running_again(standin: Standin) -> None:
    ids = standin.instances(5)
    arguments = ["--yes", *map(str, ids)]
    assert delete(standin, *arguments).returncode == 0
    again = delete(standin, *arguments)
    assert again.returncode == 1
    assert again.stdout.count("NOT_FOUND") == 5
    assert delete(standin, *arguments, "--ignore-not-found").returncode == 0


def test_options_are_passed_on(standin: Standin) -> None:
    ids = standin.instances(2, "authorized")
    done = delete(standin, "--yes", "--session", "require_logged_out", str(ids[0]))
    assert done.returncode == 1
    assert "SESSION_ACTIVE" in done.stdout
    done = delete(
        standin,
        *("--yes", "--session", "log_out", "--ca-file", standin.ca_file, "--proxy", ""),
        *("--url", standin.https_url, "--max-in-flight", "1", "--rate", "500", "--timeout", "20"),
        str(ids[1]),
    )
    assert done.returncode == 0, done.stderr
    assert standin.deleted() == {ids[1]}
    standin.hold()
    done = delete(standin, "--yes", "--timeout", "0.2", str(ids[0]))
    assert done.returncode == 3
    assert "TIMEOUT" in done.stdout


# --- the sources of ids ---


def test_ids_file(standin: Standin, tmp_path: Path) -> None:
    ids = standin.instances(3)
    path = tmp_path / "ids.txt"
    path.write_bytes(f"\ufeff# old ones\r\n\r\n {ids[0]} \r\n{ids[1]}\n{ids[0]}".encode())
    done = delete(standin, "--yes", "--ids-file", str(path), str(ids[2]))
    assert done.returncode == 0, done.stderr
    assert "1 ids given twice" in done.stderr
    assert standin.deleted() == set(ids)


def test_ids_on_standard_input(standin: Standin) -> None:
    ids = standin.instances(3)
    text = "".join(f"{one}\n" for one in ids)
    assert delete(standin, "--yes", "--ids-file", "-", stdin=text).returncode == 0
    assert standin.deleted() == set(ids)


def test_bad_lines_are_reported_before_anything_is_sent(standin: Standin, tmp_path: Path) -> None:
    [id_instance] = standin.instances(1)
    path = tmp_path / "ids.txt"
    path.write_text(f"{id_instance}\n\nabc\n0\n12345678901\n1.5\n-1\n１２\n1 2\n")
    done = delete(standin, "--yes", "--ids-file", str(path))
    assert done.returncode == 2
    assert re.findall(r"ids\.txt:(\d+): ", done.stderr) == ["3", "4", "5", "6", "7", "8", "9"]
    assert standin.stats()["connections"]["accepted"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no ids"),
        (["x"], "'x' is not the id of an instance"),
        (["--ids-file", "/nowhere/ids"], "cannot read /nowhere/ids"),
        (["--ids-file", sys.executable], "is not a text file"),
        (["1", "--url", "nonsense"], "url"),
        (["1", "--timeout", "0"], "--timeout is 0.0 seconds"),
        (["1", "--connect-timeout", "-1"], "--connect-timeout is -1.0 seconds"),
        (["1", "--max-retries", "-1"], "--max-retries is -1"),
        (["1", "--url", "http://example.com"], "--allow-http"),
        (["1", "--max-in-flight", "0"], "--max-in-flight is 0"),
        (["1", "--rate", "nan"], "--rate is"),
        (["1", "--ca-file", "/nowhere"], "--ca-file /nowhere"),
        (["1", "--session", "maybe"], "--session"),
        (["1", "--token", "x"], "--token"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_usage_errors(standin: Standin, arguments: list[str], says: str) -> None:
    done = delete(standin, "--yes", *arguments)
    assert done.returncode == 2
    assert says in done.stderr.lower() or says in done.stderr
    assert "Traceback" not in done.stderr
    assert standin.stats()["connections"]["accepted"] == 0


# --- asking ---


def test_no_terminal_to_ask(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    done = delete(standin, str(id_instance), stdin="y\n")
    assert done.returncode == 2
    assert "there is no terminal to ask before deleting: give --yes" in done.stderr
    done = delete(standin, "--yes", str(id_instance), stdin="x\n", GREENAPI_TOKEN="")
    assert done.returncode == 2
    assert "there is no terminal to ask for the partner token" in done.stderr
    assert standin.stats()["connections"]["accepted"] == 0


class Terminal:
    """The command on a terminal of its own."""

    def __init__(
        self, standin: Standin, *arguments: str, command: str = "delete", **environment: str
    ) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            # Programs draw nothing on a terminal with a width of 0 columns.
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
            full = standin.environment(TERM="xterm", **environment)
            os.execve(sys.executable, [*COMMAND, command, *arguments], full)
        self.text = ""
        self._end = time.monotonic() + PATIENCE

    def read_until(self, wanted: Optional[str]) -> None:
        """Reads until the text appears; ``None`` for the end of the output."""
        while wanted is None or wanted not in self.text:
            left = max(0, self._end - time.monotonic())
            if not select.select([self._fd], [], [], left)[0]:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                pytest.fail(f"nothing more after: {self.text!r}")
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                # Linux reports so that the other side is closed.
                data = b""
            if not data:
                assert wanted is None, self.text
                return
            self.text += data.decode()

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def finish(self) -> int:
        self.read_until(None)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@not_on_windows
def test_terminal_asks(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    for answer, expected in (("n\n", 2), ("\n", 2), ("y\n", 0)):
        terminal = Terminal(standin, str(id_instance))
        terminal.read_until("[y/N] ")
        assert f"Delete 1 instance at {standin.url}?" in terminal.text
        assert standin.deleted() == set()
        terminal.type(answer)
        assert terminal.finish() == expected, terminal.text
    assert standin.deleted() == {id_instance}


@not_on_windows
def test_terminal_asks_for_the_number(standin: Standin) -> None:
    ids = list(range(1101000001, 1101000008))
    standin.add(
        [{"id": one, "name": f"Shop\x1b[2J{one % 10}", "expired": one % 2 == 1} for one in ids]
    )
    # 7 is not an instance of the account.
    given = [ids[0], 7, *ids[1:]]
    for answer, expected in (("y\n", 2), ("yes\n", 2), ("7\n", 2), ("8\n", 1)):
        terminal = Terminal(standin, *map(str, given))
        terminal.read_until("Type the number of instances (8): ")
        assert f"Delete 8 instances at {standin.url}? This cannot be undone." in terminal.text
        assert re.search(rf"{ids[0]} +whatsapp +expired +Shop\ufffd\[2J1", terminal.text)
        assert re.search(rf"{ids[1]} +whatsapp +Shop", terminal.text)
        assert re.search(r"7 +not in the list of the account", terminal.text)
        assert "and 3 more" in terminal.text
        assert standin.deleted() == set()
        terminal.type(answer)
        assert terminal.finish() == expected, terminal.text
    assert standin.deleted() == set(ids)


@not_on_windows
def test_terminal_asks_where_the_list_cannot_be_read(standin: Standin) -> None:
    ids = standin.instances(2)
    standin.rule({"method": "list", "fault": {"status": 403}})
    terminal = Terminal(standin, *map(str, ids))
    terminal.read_until("(2): ")
    assert f"  {ids[1]}\r\n" in terminal.text
    assert "could not be learned" in terminal.text
    terminal.type("2\n")
    assert terminal.finish() == 0, terminal.text
    assert standin.deleted() == set(ids)


@not_on_windows
def test_terminal_asks_for_the_token_without_showing_it(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    terminal = Terminal(standin, "--yes", str(id_instance), GREENAPI_TOKEN="")
    terminal.read_until("Partner token: ")
    terminal.type(f"{standin.token}\n")
    assert terminal.finish() == 0, terminal.text
    assert standin.token not in terminal.text
    assert standin.deleted() == {id_instance}


@not_on_windows
def test_ctrl_c_at_the_question(standin: Standin) -> None:
    terminal = Terminal(standin, "1")
    terminal.read_until("[y/N] ")
    terminal.type("\x03")
    assert terminal.finish() == 130
    assert "Traceback" not in terminal.text


@not_on_windows
def test_ctrl_c_at_the_start(standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text("print('imports', flush=True)\ninput()\n")
    paths = f"{tmp_path}:{standin.environment()['PYTHONPATH']}"
    command = [*COMMAND, "delete", "1"]
    with start(command, standin.environment(PYTHONPATH=paths), stdin=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "imports\n"
        process.send_signal(signal.SIGINT)
        assert finish(process) == (-signal.SIGINT, "", "")


@not_on_windows
def test_progress_bar(standin: Standin, tmp_path: Path) -> None:
    ids = standin.instances(300)
    standin.rule({"id": ids[7], "fault": {"status": 403}})
    standin.rule({"id": ids[-1], "fault": {"hold": True}})
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(map(str, ids)))
    terminal = Terminal(standin, "--yes", "--ids-file", str(path))
    standin.wait(received=300)
    standin.release()
    assert terminal.finish() == 1, terminal.text
    text = terminal.text
    assert "300/300" in text
    assert "failed=1" in text
    assert "instance/s" in text
    # Time gone and time left.
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d", text)
    assert f"{ids[7]} FORBIDDEN: " in text
    assert f"{ids[0]} OK" not in text


@not_on_windows
def test_no_bar_without_tqdm(standin: Standin, tmp_path: Path) -> None:
    (tmp_path / "tqdm.py").write_text("raise ImportError")
    ids = standin.instances(3)
    paths = f"{tmp_path}:{standin.environment()['PYTHONPATH']}"
    terminal = Terminal(standin, "--yes", *map(str, ids), PYTHONPATH=paths)
    assert terminal.finish() == 0, terminal.text
    assert all(f"{one} OK\r\n" in terminal.text for one in ids)


# --- leaving early ---


ENDING = [signal.SIGINT]
if sys.platform != "win32":
    ENDING += [signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", ENDING)
def test_signals_that_end(standin: Standin, number: signal.Signals) -> None:
    ids = standin.instances(50)
    standin.rule({"skip": 2, "fault": {"hold": True}})
    arguments = ["delete", "--yes", "--json", "--max-in-flight", "4", *map(str, ids)]
    with start([*INTERRUPTIBLE_COMMAND, *arguments], standin.environment(), stdin=-1) as process:
        assert process.stdout is not None
        begun = process.stdout.readline() + process.stdout.readline()
        standin.wait(held=4)
        if number == signal.SIGINT:
            press_ctrl_c(process)
        else:
            process.send_signal(number)
        code, out, err = finish(process)
    assert code == 128 + number
    assert "Traceback" not in err
    *lines, summary = [json.loads(line) for line in (begun + out).splitlines()]
    standin.release()
    # Every id has a result, and the ledger agrees with each.
    assert {line["id_instance"] for line in lines} == set(ids)
    received = {row["id"] for row in standin.arrivals()}
    for line in lines:
        sent = "OK" if line["status"] == "OK" else "CANCELLED_IN_FLIGHT"
        assert line["status"] == (sent if line["id_instance"] in received else "CANCELLED")
    assert len(received) == 6
    assert summary["gone"] == 2
    assert len(summary["unknown"]) == 4
    assert summary["not_started"] == 44
    assert summary["interrupted"]
    again = shlex.join(["greenapi", *arguments, "--ignore-not-found"])
    assert summary["go_on_with"] == again
    assert "interrupted: 2 gone, 0 not deleted, 4 unknown, 44 not started, of 50" in err
    assert f"go on with: {again}\n" in err


# Presses Ctrl-C before each line of what runs after the given method was first entered.
SIGNALS_AT_EVERY_LINE = """
import signal, sys
from greenapi import _cli, _cli_delete
after, *arguments = sys.argv[1:]
report = _cli_delete._Report
traced = {one.__code__ for one in (_cli_delete._run, report.end, report.leave_out_the_rest)}
entered = False
def trace(frame, event, _):
    global entered
    if event == "call":
        entered = entered or frame.f_code is getattr(report, after).__code__
    elif event == "line" and entered:
        signal.raise_signal(signal.SIGINT)
    return trace if frame.f_code in traced else None
sys.settrace(trace)
status = _cli.main(arguments)
sys.settrace(None)
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("after", "code", "says"),
    [("add", 130, "interrupted: 1 gone, 0 not deleted"), ("end", 0, "greenapi: 2 gone")],
)
def test_signals_do_not_keep_the_results_back(
    standin: Standin, after: str, code: int, says: str
) -> None:
    ids = standin.instances(2)
    if after == "add":
        standin.rule({"skip": 1, "fault": {"hold": True}})
    arguments = ["delete", "--yes", "--max-in-flight", "1", *map(str, ids)]
    done = run(SIGNALS_AT_EVERY_LINE, standin.environment(), after, *arguments)
    assert done[0] == code, done
    assert {int(line.split()[0]) for line in done[1].splitlines()} == set(ids)
    assert says in done[2]
    assert "nothing was deleted" not in done[2]


@not_on_windows
def test_an_ignored_signal_stays_ignored(standin: Standin) -> None:
    ids = standin.instances(2)
    standin.rule({"skip": 1, "fault": {"hold": True}})
    command = ["nohup", *COMMAND, "delete", "--yes", *map(str, ids)]
    with start(command, standin.environment()) as process:
        standin.wait(held=1)
        process.send_signal(signal.SIGHUP)
        standin.release()
        assert finish(process)[0] == 0
    assert standin.deleted() == set(ids)


def test_a_run_with_a_journal_goes_on(standin: Standin, tmp_path: Path) -> None:
    ids = standin.instances(20)
    standin.rule({"skip": 5, "fault": {"hold": True}})
    journal = tmp_path / "run.journal"
    arguments = ["--yes", "--max-in-flight", "3", "--journal", str(journal), *map(str, ids)]
    command = [*INTERRUPTIBLE_COMMAND, "delete", *arguments]
    with start(command, standin.environment(), stdin=-1) as process:
        standin.wait(held=3)
        press_ctrl_c(process)
        code, _, err = finish(process)
    assert code == 130
    again = err.partition("go on with: greenapi ")[2].strip()
    again_arguments = again.split() if WINDOWS else shlex.split(again)
    assert again_arguments == ["delete", *arguments]
    standin.clear_faults()
    standin.release()
    shown = greenapi_command(standin, "journal", str(journal))
    assert shown.returncode == 0, shown.stderr
    assert "8 instances: 5 gone, 0 not deleted, 3 unknown" in shown.stdout
    assert shown.stdout.startswith(f"{standin.url}, 20")
    found = json.loads(greenapi_command(standin, "journal", "--json", str(journal)).stdout)
    assert (found["gone"], found["not_deleted"], len(found["unknown"])) == (5, [], 3)
    assert found["address"] == standin.url
    done = greenapi_command(standin, *again_arguments)
    assert done.returncode == 0, done.stderr
    assert "20 gone" in done.stderr
    assert standin.deleted() == set(ids)
    assert len(standin.arrivals()) == 5 + 3 + 15


def test_a_journal_that_cannot_be_read(standin: Standin, tmp_path: Path) -> None:
    [id_instance] = standin.instances(1)
    journal = tmp_path / "run.journal"
    assert delete(standin, "--yes", "--journal", str(journal), str(id_instance)).returncode == 0
    whole = journal.read_bytes()

    def says(data: bytes) -> tuple[int, str]:
        journal.write_bytes(data)
        done = greenapi_command(standin, "journal", str(journal))
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    assert "\n1 instance: 1 gone, " in says(whole)[1]
    assert says(whole[:-5]) == (0, says(whole[:-5])[1])
    assert "The last line is incomplete" in says(whole[:-5])[1]
    assert f"{journal}:2 is damaged" in says(whole.replace(b"begin", b"begun"))[1]
    assert says(b"")[0] == says(b"hello\n")[0] == says(whole[1:])[0] == 2
    assert "is no journal yet" in says(b"")[1]
    journal.unlink()
    assert "No such file" in greenapi_command(standin, "journal", str(journal)).stderr


def test_a_wrong_token_stops_the_run(standin: Standin) -> None:
    ids = [str(one) for one in standin.instances(500)]
    done = delete(standin, "--yes", "--max-in-flight", "4", *ids, GREENAPI_TOKEN="gac.wrong")
    assert done.returncode == 1
    assert "stopped, as the API does not accept the token" in done.stderr
    assert standin.stats()["received"] <= 10
    assert "--keep-going" not in done.stderr.partition("go on with")[2]
    # At most ten ids in a line.
    listed = [line for line in done.stderr.splitlines() if line.startswith("not deleted: ")]
    assert len(listed[0].split()) <= 15
    before = standin.stats()["received"]
    done = delete(standin, "--yes", "--keep-going", *ids[:50], GREENAPI_TOKEN="gac.wrong")
    assert done.returncode == 1
    assert standin.stats()["received"] == before + 50
    assert re.search(r"not deleted: (\d+ ){10}and 40 more", done.stderr)


def test_a_dash_reads_standard_input(standin: Standin) -> None:
    ids = standin.instances(3)
    text = "".join(f"{one}\n" for one in ids)
    assert delete(standin, "--yes", "-", stdin=text).returncode == 0
    assert standin.deleted() == set(ids)


def test_dry_run(standin: Standin) -> None:
    standin.add(
        [
            {"id": 1101000001, "name": "Shop", "state": "authorized"},
            {"id": 1101000002, "name": "Old", "expired": True},
            {"id": 1101000003, "deleted": True},
            {"id": 1101000004, "name": "Bakery", "state": "notAuthorized"},
        ]
    )
    ids = ["1101000001", "1101000002", "1101000003", "7", "1101000004"]
    done = delete(standin, "--dry-run", *ids)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"1101000001  whatsapp  authorized +Shop", lines[0])
    assert re.fullmatch(r"1101000002  whatsapp  expired +expired  Old", lines[1])
    assert re.fullmatch(r"1101000003  whatsapp  deleted", lines[2])
    assert re.fullmatch(r"7 +not in the list of the account", lines[3])
    assert re.fullmatch(r"1101000004  whatsapp  notAuthorized +Bakery", lines[4])
    assert "3 of 5 would be deleted; nothing was deleted" in done.stderr
    assert standin.stats()["received"] == 0
    done = delete(standin, "--dry-run", "--json", *ids[:2], ids[4])
    assert done.returncode == 0
    first, second, third = [json.loads(line) for line in done.stdout.splitlines()]
    assert (first["state"], first["in_list"], first["is_expired"]) == ("AUTHORIZED", True, False)
    assert (second["state"], second["is_expired"]) == ("EXPIRED", True)
    assert third["state"] == "NOT_AUTHORIZED"
    assert standin.deleted() == set()


def test_console_script_is_declared() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert 'greenapi = "greenapi.__main__:main"' in text


def test_reader_that_goes_away(standin: Standin) -> None:
    ids = standin.instances(500)
    arguments = ["delete", "--yes", "--max-in-flight", "2", "--rate", "200", *map(str, ids)]
    with start([*COMMAND, *arguments], standin.environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith("OK\n")
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(PATIENCE) == 141
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert len(standin.deleted()) < 500


# --- outputs that fail ---


def by_shell(standin: Standin, redirection: str, *arguments: str) -> tuple[int, str, str]:
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *arguments]
    with start(command, standin.environment(), stdin=subprocess.DEVNULL) as process:
        code, out, err = finish(process)
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    return code, out, err


needs_a_full_device = pytest.mark.skipif(
    # Wine has it, but runs no shell.
    WINDOWS or not Path("/dev/full").exists(),
    reason="the system has no /dev/full",
)


@needs_a_full_device
@pytest.mark.parametrize("json_lines", [False, True])
def test_results_that_cannot_be_written(standin: Standin, json_lines: bool) -> None:
    ids = standin.instances(50)
    more = ["--json"] if json_lines else []
    code, _, err = by_shell(
        standin, ">/dev/full", "delete", "--yes", "--max-in-flight", "2", *more, *map(str, ids)
    )
    assert code == 141
    assert "the output cannot be written: No space left on device" in err
    gone, unknown, not_started = map(
        int, re.findall(r"(\d+) (?:gone|unknown|not started)", err.partition(", of ")[0])
    )
    assert gone + unknown + not_started == 50
    assert 1 <= gone <= len(standin.deleted()) <= gone + unknown < 50


@needs_a_full_device
def test_messages_that_cannot_be_written(standin: Standin) -> None:
    ids = standin.instances(2)
    done = by_shell(standin, "2>/dev/full", "delete", "--yes", *map(str, ids))
    assert (done[0], sorted(done[1].splitlines())) == (0, [f"{one} OK" for one in ids])
    assert by_shell(standin, "2>/dev/full", "delete", "--yes", str(ids[0]))[0] == 1
    assert by_shell(standin, "2>/dev/full", "delete", "--yes", "x")[0] == 2


@needs_a_full_device
def test_lists_and_journals_that_cannot_be_written(standin: Standin, tmp_path: Path) -> None:
    ids = standin.instances(2)
    journal = str(tmp_path / "run.journal")
    assert delete(standin, "--yes", "--journal", journal, str(ids[0])).returncode == 0
    says = "greenapi: the output cannot be written: No space left on device\n"
    for arguments in (["list"], ["list", "--json"], ["journal", journal]):
        assert by_shell(standin, ">/dev/full", *arguments) == (141, "", says)


@not_on_windows
def test_closed_streams(standin: Standin) -> None:
    ids = [str(one) for one in standin.instances(4)]
    code, out, _ = by_shell(standin, "2>&-", "delete", "--yes", ids[0])
    assert (code, out) == (0, f"{ids[0]} OK\n")
    code, _, err = by_shell(standin, ">&-", "delete", "--yes", ids[1])
    assert (code, "1 gone" in err) == (0, True)
    assert by_shell(standin, "<&- >&- 2>&-", "delete", "--yes", ids[2])[0] == 0
    assert standin.deleted() == set(map(int, ids[:3]))
    for streams in (">&-", "2>&-"):
        assert by_shell(standin, streams, "list")[0] == 0
    code, _, err = by_shell(standin, "<&-", "delete", "--yes", "-")
    assert (code, "no ids" in err) == (2, True)
