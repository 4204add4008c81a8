"""``greenapi journal``: shows what a journal records. docs/JOURNAL.md has its format."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from ._abi import Effect, Status, status_effect
from ._cli_common import UsageError

if TYPE_CHECKING:
    import argparse


def add_to(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "journal",
        help="show what a journal says",
        description="Shows what a journal of greenapi delete --journal says: how many instances "
        "are gone, and of which nobody knows. Reading it is harmless while it is in use.",
    )
    parser.add_argument("file", metavar="FILE", help="the journal")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> int:
    journal = read(options.file)
    groups: dict[str, list[int]] = {"gone": [], "not_deleted": [], "unknown": []}
    for one, status in journal.ends.items():
        groups[_group(status)].append(one)
    if options.json:
        print(
            json.dumps(
                {
                    "address": journal.address,
                    "first": journal.first,
                    "last": journal.last,
                    "gone": len(groups["gone"]),
                    "not_deleted": groups["not_deleted"],
                    "unknown": groups["unknown"],
                    "logged_out": sorted(journal.logged_out),
                    "torn": journal.torn,
                }
            )
        )
        return 0
    when = f", {journal.first} to {journal.last}" if journal.first else ""
    print(f"{journal.address}{when}")
    counts = ", ".join(f"{len(ids)} {name.replace('_', ' ')}" for name, ids in groups.items())
    instances = "1 instance" if len(journal.ends) == 1 else f"{len(journal.ends)} instances"
    print(f"{instances}: {counts}")
    for one in groups["not_deleted"]:
        print(f"not deleted: {one} {_name(journal.ends[one])}")
    for one in groups["unknown"]:
        print(f"unknown: {one} {_name(journal.ends[one])}")
    if groups["unknown"]:
        print("Delete the unknown ones again with this journal: safe, and the results show which.")
    if journal.torn:
        print("The last line is torn: what it was about had not been sent.")
    return 0


def _group(status: int | None) -> str:
    if status is None:
        return "unknown"
    effect = status_effect(status)
    if effect is Effect.UNKNOWN:
        return "unknown"
    return "gone" if effect is Effect.DELETED else "not_deleted"


def _name(status: int | None) -> str:
    return "begun, without an end" if status is None else Status(status).name


class Journal:
    """The contents of a journal."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.first = ""
        self.last = ""
        self.ends: dict[int, int | None] = {}
        """The last status of each instance; ``None`` where its deletion has begun and not ended."""
        self.logged_out: set[int] = set()
        self.torn = False


def read(path: str) -> Journal:
    """Reads a journal.

    Raises:
        UsageError: the file cannot be read, is no journal, is of a later version, or is damaged.
    """
    try:
        with open(path, "rb") as file:
            header = file.readline()
            journal = _begin(path, header)
            for number, line in enumerate(file, 2):
                if not line.endswith(b"\n"):
                    journal.torn = True
                    break
                _record(journal, line, f"{path}:{number}")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    return journal


def _begin(path: str, header: bytes) -> Journal:
    if not header:
        raise UsageError(f"{path} is empty: it is no journal yet")
    name, *fields = _fields(header, f"{path}:1")
    if name != "greenapi-journal" or len(fields) < 2:
        raise UsageError(f"{path} is not a journal of greenapi")
    if fields[0] != "1":
        raise UsageError(f"{path} is a journal of a later version: use a newer greenapi")
    return Journal(fields[1])


def _record(journal: Journal, line: bytes, place: str) -> None:
    time, event, number, *rest = _fields(line, place)
    journal.first = journal.first or time
    journal.last = time
    if event == "begin":
        journal.ends[int(number)] = None
    elif event == "end":
        journal.ends[int(number)] = int(rest[0])
    elif event == "logout":
        journal.logged_out.add(int(number))


def _fields(line: bytes, place: str) -> list[str]:
    text, check = line[:-1][:-9], line[:-1][-8:]
    if b"%08x" % zlib.crc32(text) != check:
        raise UsageError(f"{place} is damaged, or not of a journal of greenapi")
    return text.decode().split(" ")
