"""``greenapi delete``: deletes the instances of a list.

Exit status:
  0    every instance is gone
  1    some were not deleted
  2    the command line, the ids or the options cannot be used; nothing was sent
  3    some may or may not have been deleted
  130  interrupted by Ctrl-C; 143 by SIGTERM, 129 by SIGHUP; on Windows 149 by Ctrl-Break
  141  the output could not be written: its reader went away, or the disk is full
Where several apply, 130, 143, 129, 149 and 141 come before 3, and 3 before 1.

Running the same command again is safe. With --journal the second run goes on where the first one
stopped, and knows what the first one did. Without a journal, ids deleted by the first
run answer NOT_FOUND at the second, and so do ids that never existed; only you can tell the two
apart. So a missing instance counts as not deleted, unless --ignore-not-found is given: omit it at
the first run, to have typing errors reported, and give it when running again.
"""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from . import _cli_common
from ._abi import Effect, Status
from ._cli_common import UsageError
from ._errors import Error, Result, refused

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ._client import Client
    from ._instances import Instance

_SHOWN = 10
"""The most ids that a line of the summary names."""

_SAMPLE = 5
"""The most instances shown before the question whether to delete them."""


def add_to(commands: Any) -> None:
    """Adds the command to the parser."""
    import argparse

    parser = commands.add_parser(
        "delete",
        help="delete instances by their ids",
        description="Deletes instances by their ids.",
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "ids",
        nargs="*",
        metavar="ID",
        help="id of an instance: 1 to 10 digits; - reads ids from the standard input",
    )
    add(
        "--ids-file",
        metavar="FILE",
        help="read ids from a file, one per line; blank lines and those that begin with # are "
        "left out; - is the standard input",
    )
    add("--yes", action="store_true", help="do not ask before deleting")
    add(
        "--dry-run",
        action="store_true",
        help="show what each id is and delete nothing",
    )
    add(
        "--journal",
        metavar="FILE",
        help="note each deletion durably in this file before it is sent; a run with the same "
        "file goes on where an earlier one stopped",
    )
    add(
        "--json",
        action="store_true",
        help="print one JSON object per line: each result, then the ids that need another look",
    )
    add(
        "--ignore-not-found",
        action="store_true",
        help="count a missing instance as gone: for running again after an interruption",
    )
    add(
        "--keep-going",
        action="store_true",
        help="go on when the API does not accept the token",
    )
    _cli_common.add_session_option(parser)
    _cli_common.add_client_options(parser)
    parser.set_defaults(run=_delete)


def _delete(options: argparse.Namespace) -> int:
    ids = _ids(options)
    if options.dry_run:
        # A dry run deletes nothing, so it has nothing to note.
        options.journal = None
    with _cli_common.make_client(options) as client:
        if options.dry_run:
            return _show(client, ids, options)
        if not options.yes:
            _confirm(client, ids, options.url)
        return _run(client, ids, options)


# --- what to delete ---


def _ids(options: argparse.Namespace) -> list[int]:
    problems: list[str] = []
    ids: list[int] = []

    def read(place: str, text: str) -> None:
        if re.fullmatch("[1-9][0-9]{0,9}", text):
            ids.append(int(text))
        else:
            problems.append(f"{place}: {text[:40]!r} is not the id of an instance (1 to 10 digits)")

    files = [] if options.ids_file is None else [options.ids_file]
    for text in options.ids:
        if text == "-":
            files.append(text)
        else:
            read("argument", text)
    for path in dict.fromkeys(files):
        for number, line in enumerate(_lines(path), 1):
            text = line.strip()
            if text and not text.startswith("#"):
                read(f"{path}:{number}", text)
    if problems:
        shown = problems[:20]
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown)} more")
        raise UsageError("nothing was sent, correct these first:\n  " + "\n  ".join(shown))
    if not ids:
        raise UsageError("no ids: give them as arguments or with --ids-file")
    different = list(dict.fromkeys(ids))
    if len(different) < len(ids):
        _cli_common.say(f"greenapi: {len(ids) - len(different)} ids given twice")
    return different


def _lines(path: str) -> list[str]:
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
        # Spreadsheets put a byte order mark in front.
        return data.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text file (byte {error.start} is not UTF-8)") from error


# --- asking ---


def _find(client: Client, ids: list[int], states: bool) -> dict[int, Instance]:
    """The account's entries for these ids; the list is read only until all were found."""
    wanted, found = set(ids), {}
    with client.instances(states=states) as instances:
        for instance in instances:
            if instance.id_instance in wanted:
                found[instance.id_instance] = instance
                if len(found) == len(wanted):
                    break
    return found


def _describe(id_instance: int, instance: Instance | None) -> str:
    if instance is None:
        return f"{id_instance:<10}  not in the list of the account"
    words = [f"{id_instance:<10}", f"{_cli_common.printable(instance.type):<8}"]
    if instance.is_deleted:
        words.append("deleted")
    elif instance.state:
        words.append(f"{_cli_common.in_api(instance.state):<15}")
    if instance.is_expired and not instance.is_deleted:
        words.append("expired")
    return "  ".join([*words, _cli_common.printable(instance.name)]).rstrip()


def _confirm(client: Client, ids: list[int], url: str) -> None:
    _cli_common.require_terminal("ask before deleting", "give --yes")
    if len(ids) == 1:
        question, wanted = f"Delete 1 instance at {url}? This cannot be undone. [y/N] ", "y"
    else:
        lines = [f"Delete {len(ids)} instances at {url}? This cannot be undone."]
        sample = ids[:_SAMPLE]
        try:
            found = _find(client, sample, states=False)
            lines += [f"  {_describe(one, found.get(one))}" for one in sample]
        except Error as error:
            lines += [f"  {one}" for one in sample]
            lines.append(f"  (what they are could not be learned: {error.message})")
        if len(ids) > len(sample):
            lines.append(f"  and {len(ids) - len(sample)} more")
        question = "\n".join([*lines, f"Type the number of instances ({len(ids)}): "])
        wanted = str(len(ids))
    with (
        open(_cli_common.TERMINAL_OUT, "w") as out,
        open(_cli_common.TERMINAL_IN, errors="replace") as answers,
    ):
        out.write(question)
        out.flush()
        answer = answers.readline().strip().lower()
    if answer != wanted and (wanted, answer) != ("y", "yes"):
        raise UsageError("nothing was sent: not confirmed")


def _show(client: Client, ids: list[int], options: argparse.Namespace) -> int:
    """``--dry-run``: describes each id."""
    try:
        found = _find(client, ids, states=True)
    except Error as error:
        raise UsageError(_cli_common.in_flags(options.parser, error.message)) from error
    living = 0
    for one in ids:
        instance = found.get(one)
        living += instance is not None and not instance.is_deleted
        if options.json:
            known = {"id_instance": one} if instance is None else instance.as_dict()
            print(json.dumps({**known, "in_list": instance is not None}, ensure_ascii=False))
        else:
            print(_describe(one, instance))
    _cli_common.say(f"greenapi: {living} of {len(ids)} would be deleted; nothing was deleted")
    return 0 if living == len(ids) else 1


# --- deleting and reporting ---


class _Report:
    """The output of a run: a bar on a terminal where tqdm is installed, else a line for each id."""

    def __init__(self, ids: list[int], options: argparse.Namespace) -> None:
        self._ids = ids
        self._results: dict[int, Result | None] = {}
        self._options = options
        self._began = time.monotonic()
        self._failures = 0
        self.lost: OSError | None = None
        self.token_is_wrong = False
        self._bar: Any = _bar(len(ids))

    def draw(self) -> Iterator[int]:
        """The ids, until the token turns out to be wrong."""
        for one in self._ids:
            if self.token_is_wrong and not self._options.keep_going:
                return
            # An id that never gets a result counts as unknown.
            self._results[one] = None
            yield one

    def leave_out_the_rest(self) -> None:
        """Adds the result CANCELLED for the ids that were never begun."""
        for one in self._ids:
            if one not in self._results:
                self.add(refused(one, Status.CANCELLED))

    def _group(self, result: Result | None) -> str:
        if result is None or result.effect is Effect.UNKNOWN:
            return "unknown"
        missing_is_gone = self._options.ignore_not_found and result.status is Status.NOT_FOUND
        if result.ok or missing_is_gone:
            return "gone"
        return "not started" if result.status is Status.CANCELLED else "not deleted"

    def add(self, result: Result) -> None:
        """Records and shows a result."""
        self._results[result.id_instance] = result
        self.token_is_wrong |= result.status is Status.UNAUTHORIZED
        group = self._group(result)
        if self._options.json:
            self._line(json.dumps(result.as_dict(), ensure_ascii=False))
        elif group in ("unknown", "not deleted"):
            message = _cli_common.in_flags(self._options.parser, result.message)
            self._line(f"{result.id_instance} {result.status}: {message}")
        elif self._bar is None:
            self._line(f"{result.id_instance} {result.status}")
        if self._bar is not None:
            if group != "gone":
                self._failures += 1
                self._bar.set_postfix(failed=self._failures, refresh=False)
            self._bar.update()

    def end(self, cut_short: str) -> int:
        """Prints the summary; returns the exit status of a run that was not interrupted."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        groups: dict[str, list[int]] = {
            name: [] for name in ("gone", "not deleted", "unknown", "not started")
        }
        for one, result in self._results.items():
            groups[self._group(result)].append(one)
        command = self._command() if cut_short else None
        if self._options.json:
            summary: dict[str, Any] = {
                "gone": len(groups["gone"]),
                "not_deleted": groups["not deleted"],
                "unknown": groups["unknown"],
                "not_started": len(groups["not started"]),
                "interrupted": bool(cut_short),
            }
            if command is not None:
                summary["go_on_with"] = command
            self._line(json.dumps(summary))
        counts = ", ".join(f"{len(ids)} {name}" for name, ids in groups.items())
        seconds = time.monotonic() - self._began
        say = [
            f"greenapi: {f'{cut_short}: ' if cut_short else ''}{counts}, "
            f"of {len(self._results)} in {seconds:.1f} s"
        ]
        for name, remark in (("not deleted", ""), ("unknown", ", run again")):
            if groups[name]:
                say.append(f"{name}{remark}: {_first(groups[name])}")
        if command is not None:
            say.append(f"go on with: {command}")
            if "-" in (*self._options.ids, self._options.ids_file):
                say.append("and the same ids on its standard input")
        if self.lost is not None and not _cli_common.reader_left(self.lost):
            say.append(f"the output cannot be written: {self.lost.strerror}")
        _cli_common.say("\n".join(say))
        if self.lost is not None:
            return _cli_common.OUTPUT_LOST
        return 3 if groups["unknown"] else 1 if groups["not deleted"] else 0

    def _command(self) -> str:
        # Without a journal the second run cannot know that the first one deleted an id.
        extra = () if self._options.journal else ("--ignore-not-found",)
        return _cli_common.again(self._options, *extra)

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        try:
            # At once: print writes the line end by itself.
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except OSError as error:
            self.lost = error
            _cli_common.lose_output(sys.stdout)
        if self._bar is not None:
            self._bar.refresh()


def _first(ids: list[int]) -> str:
    shown = " ".join(map(str, ids[:_SHOWN]))
    return shown if len(ids) <= _SHOWN else f"{shown} and {len(ids) - _SHOWN} more"


def _bar(total: int) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    # A redraw that tqdm puts off would come only with the next answer, which may be slow.
    return tqdm(total=total, unit="instance", file=sys.stderr, dynamic_ncols=True, miniters=1)


def _run(client: Client, ids: list[int], options: argparse.Namespace) -> int:
    report = _Report(ids, options)
    try:
        results = client.delete_instances(report.draw())
        # Not by an exception: that could come between a result and its report.
        _cli_common.at_signal(results.cancel)
        with results:
            for result in results:
                report.add(result)
                if report.lost is not None:
                    results.cancel()
    except Error as error:
        raise UsageError(_cli_common.in_flags(options.parser, error.message)) from error
    # What was done is reported from here on, and must be, whatever comes.
    _cli_common.ignore_signals()
    exit_status, cut_short = _cli_common.exit_status(), ""
    if exit_status or report.lost is not None:
        cut_short = "interrupted"
    elif report.token_is_wrong and not options.keep_going:
        cut_short = "stopped, as the API does not accept the token"
    report.leave_out_the_rest()
    status = report.end(cut_short)
    return exit_status or status
