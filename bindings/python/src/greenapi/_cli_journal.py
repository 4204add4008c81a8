"""``greenapi journal``: shows what a journal records. docs/JOURNAL.md has its format."""

from __future__ import annotations

import json
import re
import zlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ._abi import Effect, Status, status_effect
from ._cli_common import UsageError, printable

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
        print(
            "The last line is incomplete: a deletion that it would begin was not sent, and one "
            "that it would end counts as unknown."
        )
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
    """Reads a journal by the library's own rules, but without its lock, so also while it is in use.

    Raises:
        UsageError: the file cannot be read, is no journal, is of a later version, or is damaged.
    """
    try:
        with open(path, "rb") as file:
            journal = Journal(_address(path, file.readline()))
            ending: set[int] = set()
            for number, line in enumerate(file, 2):
                if line.endswith(b"\n"):
                    good = _record(journal, ending, line[:-1])
                else:
                    good = journal.torn = _is_torn(line.rstrip(b"\0"))
                if not good:
                    raise UsageError(f"{path}:{number} is damaged, so no line is trusted")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    return journal


_NAME = b"greenapi-journal "
_HEADER = re.compile(_NAME + rb"([1-9][0-9]{0,17}) (.*)")

_TIME = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z"
_RECORD = re.compile(
    rb"(%s) (?:(begin|logout) ([1-9][0-9]{0,9})"
    rb"|end ([1-9][0-9]{0,9}) (0|[1-9][0-9]{0,9}) (0|-?[1-9][0-9]{0,9}) [A-Z0-9_]+)" % _TIME
)
_LARGEST = 2**31 - 1

_TIME_SHAPE = "0000-00-00T00:00:00.000Z"
_TORN_FIELDS = {
    b"begin": (rb"[0-9]{0,10}", rb"[0-9a-f]{0,8}"),
    b"logout": (rb"[0-9]{0,10}", rb"[0-9a-f]{0,8}"),
    b"end": (
        rb"[0-9]{0,10}",
        rb"[0-9]{0,10}",
        rb"-?[0-9]{0,10}",
        rb"[A-Z0-9_]*",
        rb"[0-9a-f]{0,8}",
    ),
}


def _address(path: str, line: bytes) -> str:
    """The address in the first line."""
    if not line.endswith(b"\n"):
        start = line.rstrip(b"\0")
        if _NAME.startswith(start) or start.startswith(_NAME):
            raise UsageError(f"{path} is no journal yet: its first line is incomplete")
    if not line.startswith(_NAME):
        raise UsageError(f"{path} is not a journal of greenapi")
    text = _checked(line[:-1])
    found = text and _is_utf8(text) and _HEADER.fullmatch(text)
    if not found:
        raise UsageError(f"{path}:1 is damaged, so no line is trusted")
    if found[1] != b"1":
        raise UsageError(f"{path} is a journal of a later version: use a newer greenapi")
    return printable(found[2].decode())


def _record(journal: Journal, ending: set[int], line: bytes) -> bool:
    """Takes a line; false if it is damaged. ``ending``: the instances that may have an end now."""
    found = _parse(line)
    if found is None:
        return False
    if found[2]:
        one = int(found[3])
        if found[2] == b"begin":
            journal.ends[one] = None
        else:
            journal.logged_out.add(one)
        ending.add(one)
    else:
        one, status = int(found[4]), int(found[5])
        if one not in ending:
            return False
        journal.ends[one] = status
        if status_effect(status) is not Effect.UNKNOWN:
            ending.remove(one)
    journal.last = found[1].decode()
    journal.first = journal.first or journal.last
    return True


def _is_torn(start: bytes) -> bool:
    """Whether an interrupted write of a record can leave this."""
    time, rest = start[:24].decode("latin-1"), start[24:]
    if re.sub("[0-9]", "0", time) != _TIME_SHAPE[: len(time)]:
        return False
    if not rest.startswith(b" "):
        return not rest
    event, *fields = rest[1:].split(b" ")
    if not fields:
        return any(word.startswith(event) for word in _TORN_FIELDS)
    shapes = _TORN_FIELDS.get(event, ())
    if len(fields) > len(shapes) or not all(fields[:-1]):
        return False
    if not all(re.fullmatch(*pair) for pair in zip(shapes, fields)):
        return False
    # If only the line end is missing, the rest must be right.
    return len(fields) < len(shapes) or len(fields[-1]) < 8 or _parse(start) is not None


def _parse(line: bytes) -> re.Match[bytes] | None:
    text = _checked(line)
    found = text and _RECORD.fullmatch(text)
    if not found:
        return None
    try:
        time = datetime.fromisoformat(found[1][:-1].decode())
    except ValueError:
        return None
    status, code = int(found[5] or 0), int(found[6] or 0)
    fits = status <= _LARGEST and -_LARGEST - 1 <= code <= _LARGEST
    return found if fits and time.year >= 1970 else None


def _is_utf8(text: bytes) -> bool:
    try:
        return bool(text.decode())
    except ValueError:
        return False


def _checked(line: bytes) -> bytes | None:
    """A line without its checksum, unless that is wrong."""
    return line[:-9] if line[-9:] == b" %08x" % zlib.crc32(line[:-9]) else None
