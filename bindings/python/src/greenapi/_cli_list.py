"""``greenapi list``: the account's instances, filtered."""

from __future__ import annotations

import csv
import fnmatch
import json
import shutil
import sys
import time
import unicodedata
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from . import _cli_common
from ._abi import State
from ._cli_common import UsageError
from ._errors import Error
from ._instances import Instance

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_FRESH = timedelta(hours=2)
"""The API may show a new instance as expired for an hour."""


def add_to(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "list",
        help="list the account's instances",
        description="Lists the account's living instances; all filters that are given must hold.",
    )
    chosen = parser.add_argument_group("filters")
    expiry = chosen.add_mutually_exclusive_group()
    expiry.add_argument(
        *("--expired",),
        action="store_true",
        help="only expired ones; leaves out what was created in the last two hours, as the API "
        "shows new instances as expired for a while",
    )
    expiry.add_argument(
        *("--not-expired",), action="store_true", help="only others; leaves out the same"
    )
    chosen.add_argument(
        "--state",
        metavar="S,…",
        help="only those in one of these states: "
        + ", ".join(_cli_common.in_api(state) for state in State if state),
    )
    chosen.add_argument("--type", metavar="T", help="only this messenger: whatsapp, telegram, v3")
    chosen.add_argument(
        "--created-before", metavar="DATE", help="only older ones: 2026-01-31, or with a time (UTC)"
    )
    chosen.add_argument("--name", metavar="GLOB", help="only names like this: 'test-*'")
    chosen.add_argument(
        "--deleted", action="store_true", help="the deleted ones of the last 3 months instead"
    )
    shown = parser.add_argument_group("output").add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="one JSON object per line")
    shown.add_argument("--csv", action="store_true", help="comma-separated values with a header")
    shown.add_argument(
        "--ids", action="store_true", help="ids only, one per line, for greenapi delete -"
    )
    parser.add_argument(
        "--no-states",
        action="store_true",
        help="do not ask each instance for its state, which takes a request each",
    )
    _cli_common.add_client_options(parser)
    parser.set_defaults(run=_list)


def _list(options: argparse.Namespace) -> int:
    chosen = _Filter(options)
    # These outputs do not show the states.
    unseen = options.ids or options.deleted
    states = bool(chosen.states) or not (options.no_states or unseen)
    progress = _Progress()
    try:
        with (
            _cli_common.make_client(options) as client,
            client.instances(states=states) as instances,
        ):
            # Not before the token is there, because it may print a heading.
            printer = _printer(options, states)
            for instance in progress.count(instances):
                if chosen.takes(instance):
                    progress.clear()
                    printer.add(instance)
    except Error as error:
        progress.clear()
        sys.stdout.flush()
        message = _cli_common.in_flags(options.parser, error.message)
        _cli_common.say(f"greenapi: the list is not whole: {message}")
        return 1
    progress.clear()
    printer.end()
    sys.stdout.flush()
    if chosen.fresh:
        _cli_common.say(
            f"greenapi: left out {chosen.fresh} created less than two hours ago, which may be "
            "shown as expired without being it"
        )
    return 0


class _Filter:
    """The filter that the command line describes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._now = datetime.now(timezone.utc)
        self.states = _states(options.state)
        self._before = _time(options.created_before)
        self.fresh = 0
        if self.states and (options.deleted or options.no_states):
            raise UsageError("--state goes neither with --deleted nor with --no-states")

    def takes(self, instance: Instance) -> bool:
        """Whether an instance passes the filter."""
        options = self._options
        created = instance.created
        if (
            instance.is_deleted != options.deleted
            or (self.states and instance.state not in self.states)
            or (options.type and instance.type.casefold() != options.type.casefold())
            or (self._before and (created is None or created >= self._before))
            or (options.name and not fnmatch.fnmatchcase(instance.name, options.name))
        ):
            return False
        if not (options.expired or options.not_expired):
            return True
        if created is not None and self._now - created < _FRESH:
            self.fresh += 1
            return False
        return instance.is_expired is bool(options.expired)


def _states(text: str | None) -> frozenset[State]:
    if text is None:
        return frozenset()
    known = {_cli_common.in_api(state).lower(): state for state in State if state}
    chosen = set()
    for word in text.split(","):
        state = known.get(word.strip().replace("_", "").replace("-", "").lower())
        if state is None:
            names = ", ".join(map(_cli_common.in_api, known.values()))
            raise UsageError(f"--state has no {word.strip()!r}: give some of {names}")
        chosen.add(state)
    return frozenset(chosen)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        # Python 3.9 and 3.10 reject the Z.
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise UsageError(
            f"--created-before is {text[:40]!r}: give a date like 2026-01-31"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


# --- output ---


class _Progress:
    """The number of instances read, on a terminal, until there is other output."""

    def __init__(self) -> None:
        self._shown = ""
        self._seen = 0
        self._next = time.monotonic() + 0.2

    def count(self, instances: Iterator[Instance]) -> Iterator[Instance]:
        """Yields the instances, and counts them."""
        on_terminal = sys.stderr.isatty()
        for instance in instances:
            self._seen += 1
            if on_terminal and time.monotonic() > self._next:
                self._next = time.monotonic() + 0.2
                self._shown = f"{self._seen} instances looked at"
                print(f"\r{self._shown}", end="", file=sys.stderr, flush=True)
            yield instance

    def clear(self) -> None:
        """Erases the line."""
        if self._shown:
            # Not an escape sequence, because older consoles of Windows print those.
            print(f"\r{' ' * len(self._shown)}\r", end="", file=sys.stderr, flush=True)
            self._shown = ""


def _printer(options: argparse.Namespace, states: bool) -> Any:
    if options.ids:
        return _Ids()
    if options.json:
        return _Json()
    return _Csv() if options.csv else _Table(states)


class _Ids:
    def add(self, instance: Instance) -> None:
        print(instance.id_instance)

    def end(self) -> None:
        pass


class _Json:
    def add(self, instance: Instance) -> None:
        print(json.dumps(instance.as_dict(), ensure_ascii=False))

    def end(self) -> None:
        pass


class _Csv:
    def __init__(self) -> None:
        # Windows' standard output adds the \r itself.
        self._writer = csv.writer(
            sys.stdout, lineterminator="\n" if sys.platform == "win32" else "\r\n"
        )
        self._writer.writerow(Instance._fields)

    def add(self, instance: Instance) -> None:
        self._writer.writerow("" if one is None else one for one in instance.as_dict().values())

    def end(self) -> None:
        pass


class _Table:
    """A line for each instance, cut to the terminal's width, and totals."""

    def __init__(self, states: bool) -> None:
        self._states = states
        self._count = 0
        self._expired = 0
        self._by_state: Counter[str] = Counter()
        self._width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        self._row("id", "type", "state", "created", "", "name")

    def add(self, instance: Instance) -> None:
        self._count += 1
        self._expired += instance.is_expired
        state = _cli_common.in_api(instance.state)
        self._by_state[state] += 1
        if instance.is_deleted:
            note = f"deleted {_day(instance.deleted)}"
        else:
            note = "expired" if instance.is_expired else ""
        self._row(
            str(instance.id_instance),
            _cli_common.printable(instance.type),
            state,
            _day(instance.created),
            note,
            _cli_common.printable(instance.name),
        )

    def _row(self, number: str, kind: str, state: str, created: str, note: str, name: str) -> None:
        columns = [f"{number:>10}", f"{kind:<8}"]
        if self._states:
            columns.append(f"{state:<15}")
        columns += [f"{created:<10}", f"{note:<7}", name]
        line = "  ".join(columns).rstrip()
        print(_cut(line, self._width) if self._width else line)

    def end(self) -> None:
        instances = "1 instance" if self._count == 1 else f"{self._count} instances"
        states = ", ".join(f"{count} {state}" for state, count in self._by_state.most_common())
        print(
            f"{instances}, {self._expired} of them expired"
            + (f"; states: {states}" if self._states and states else "")
        )


def _day(time_: datetime | None) -> str:
    return "" if time_ is None else f"{time_:%Y-%m-%d}"


def _cut(line: str, width: int) -> str:
    """A text cut to so many columns; most Chinese characters take two."""
    used = 0
    for position, one in enumerate(line):
        used += 2 if unicodedata.east_asian_width(one) in "WF" else not unicodedata.combining(one)
        if used > width:
            return line[: position - 1] + "…"
    return line
