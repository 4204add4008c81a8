"""``greenapi list``: filters, forms, and the whole way from the list to the deletion."""

import csv
import io
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from programs import not_on_windows
from standin import Standin
from test_cli import Terminal, delete, greenapi_command

OLD = "2025-03-01T12:00:00"


def ago(hours: float) -> str:
    return f"{datetime.now(timezone.utc) - timedelta(hours=hours):%Y-%m-%dT%H:%M:%S}"


ROWS: list[dict[str, Any]] = [
    {"id": 1, "name": "test-1", "state": "authorized", "time_created": OLD},
    {"id": 2, "name": "test-2", "state": "notAuthorized", "time_created": OLD},
    {"id": 3, "name": "Shop", "expired": True, "time_created": OLD},
    {"id": 4, "name": "TG", "type_instance": "telegram", "time_created": "2026-06-01T00:00:00"},
    {"id": 5, "name": "new", "is_expired": True, "time_created": ago(0.5)},
    {"id": 6, "name": "gone", "deleted": True, "time_created": OLD},
    {"id": 7, "name": "Магазин\x1b[2J\n", "state": "yellowCard", "time_created": ago(3)},
]


@pytest.fixture(autouse=True)
def account(standin: Standin) -> None:
    rows = [{**row, "id": 1101000000 + row["id"]} for row in ROWS]
    for row in rows:
        row.setdefault("state", "notAuthorized")
    standin.add(rows)


def listed(standin: Standin, *arguments: str) -> Any:
    done = greenapi_command(standin, "list", *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    return done


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", [1, 2, 3, 4, 5, 7]),
        ("--expired", [3]),
        ("--not-expired", [1, 2, 4, 7]),
        ("--state authorized", [1]),
        ("--state notAuthorized,yellow_card", [2, 4, 5, 7]),
        ("--name S* --state expired", [3]),
        ("--type telegram", [4]),
        ("--created-before 2026-01-01", [1, 2, 3]),
        ("--created-before 2025-03-01T12:00:00Z", []),
        ("--created-before 2025-03-01T12:00:01", [1, 2, 3]),
        ("--name test-*", [1, 2]),
        ("--name test-* --state authorized", [1]),
        ("--deleted", [6]),
    ],
)
def test_filters(standin: Standin, arguments: str, expected: list[int]) -> None:
    done = listed(standin, "--ids", *arguments.split())
    assert [int(line) - 1101000000 for line in done.stdout.splitlines()] == expected
    assert ("left out 1 created less than two hours" in done.stderr) == (
        "expired" in arguments[:14]
    )


def test_states_are_asked_only_where_they_are_seen(standin: Standin) -> None:
    listed(standin, "--ids", "--expired")
    listed(standin, "--no-states")
    assert "state" not in standin.stats()["requests"]
    listed(standin)
    assert standin.stats()["requests"]["state"] == 6


def test_table(standin: Standin) -> None:
    lines = listed(standin).stdout.splitlines()
    assert lines[0].split() == ["id", "type", "state", "created", "name"]
    assert lines[1].split() == ["1101000001", "whatsapp", "authorized", "2025-03-01", "test-1"]
    assert lines[3].split()[-2:] == ["expired", "Shop"]
    # A name must not send escapes to the terminal.
    assert "\x1b" not in "".join(lines)
    assert lines[6].endswith("Магазин\ufffd[2J\ufffd")
    assert lines[-1] == (
        "6 instances, 2 of them expired; "
        "states: 3 notAuthorized, 1 authorized, 1 expired, 1 yellowCard"
    )


@not_on_windows
def test_the_table_fits_the_terminal(standin: Standin) -> None:
    standin.add([{"id": 1101000009, "name": "很长的名字" * 20, "state": "authorized"}])
    terminal = Terminal(standin, command="list")
    assert terminal.finish() == 0
    rows = [line for line in terminal.text.splitlines() if "1101000009" in line]
    assert rows[-1].endswith("…")
    assert len(rows[-1]) < 100


def test_json_and_csv(standin: Standin) -> None:
    rows = [json.loads(line) for line in listed(standin, "--json").stdout.splitlines()]
    assert rows[0]["state"] == "AUTHORIZED"
    assert rows[0]["created"] == f"{OLD}+00:00"
    assert rows[5]["name"] == "Магазин\x1b[2J\n"
    table = list(csv.DictReader(io.StringIO(listed(standin, "--csv").stdout)))
    assert [row["id_instance"] for row in table] == [str(row["id_instance"]) for row in rows]
    assert (table[0]["deleted"], table[0]["is_partner"]) == ("", "True")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--state logged_out", "--state has no 'logged_out': give some of notAuthorized, "),
        ("--created-before yesterday", "--created-before is 'yesterday'"),
        ("--expired --not-expired", "not allowed with"),
        ("--state authorized --deleted", "--state goes neither with"),
        ("--max-in-flight 0", "--max-in-flight is 0"),
    ],
)
def test_usage_errors(standin: Standin, arguments: str, says: str) -> None:
    done = greenapi_command(standin, "list", *arguments.split())
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr


def test_a_list_that_breaks_off(standin: Standin) -> None:
    body = '[{"idInstance":1101000001},{"idInst'
    standin.rule({"method": "list", "fault": {"status": 200, "body": body}})
    done = greenapi_command(standin, "list", "--ids", "--max-retries", "0")
    assert done.returncode == 1
    assert done.stdout == "1101000001\n"
    assert "the list is not whole: " in done.stderr


def test_from_5000_the_expired_and_logged_out_are_deleted_and_nothing_else(
    standin: Standin,
) -> None:
    """Three commands: find, show, delete."""
    kinds: list[dict[str, Any]] = [
        {"state": "authorized"},
        {"state": "notAuthorized"},
        {"expired": True},
        {"state": "authorized", "is_expired": True, "time_created": ago(1)},
        {"state": "blocked"},
    ]
    rows = [
        {"id": 2000000000 + number, "time_created": OLD, **kinds[number % 5]}
        for number in range(5000)
    ]
    standin.add(rows)
    wanted = {row["id"] for row in rows if row.get("state", "") == "notAuthorized"}
    wanted |= {row["id"] for row in rows if row.get("expired")}
    # Of those that were there before.
    wanted |= {1101000002, 1101000003}
    filters = ["--state", "notAuthorized,expired", "--created-before", "2026-01-01"]
    shown = listed(standin, *filters)
    assert shown.stdout.splitlines()[-1].startswith("2002 instances, 1001 of them expired; ")
    found = listed(standin, "--ids", *filters).stdout
    assert set(map(int, found.split())) == wanted
    done = delete(standin, "--yes", "--session", "try_log_out", "-", stdin=found)
    assert done.returncode == 0, done.stderr[-2000:]
    assert standin.deleted() == wanted


@pytest.mark.parametrize("arguments", [(), ("--csv",)])
def test_nothing_is_printed_without_a_token(standin: Standin, arguments: tuple[str, ...]) -> None:
    done = greenapi_command(standin, "list", *arguments, GREENAPI_TOKEN="")
    assert (done.returncode, done.stdout) == (2, "")
