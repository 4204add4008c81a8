"""The command ``python -m greenapi``: deletes the instances of a list.

Exit status:
  0    every instance is gone
  1    some were not deleted
  2    the command line, the ids or the options cannot be used; nothing was sent
  3    of some it is unknown whether they were deleted
  130  interrupted by Ctrl-C
  141  the reader of the output went away
Where several hold, 130 and 141 come before 3, and 3 before 1.

Running the same command again is safe. Ids deleted by the first run answer NOT_FOUND at the
second, and so do ids that never existed; only the caller can tell the two apart. So a missing
instance counts as not deleted, unless --ignore-not-found says that missing is as good as gone:
leave it out at the first run, to have typing errors reported, and give it when running again.
"""

import argparse
import getpass
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from . import __version__
from ._abi import Effect, Session, Status
from ._client import Client
from ._errors import Error, Result

_URL = "https://api.green-api.com"
_USAGE = 2
_INTERRUPTED = 130
_PIPE_CLOSED = 141


class _UsageError(Exception):
    """Something the user has to correct; nothing was sent."""


def main(arguments: Optional[list[str]] = None) -> int:
    """Runs the command; returns its exit status.

    Args:
        arguments: The arguments after the program's name; ``None`` for the process's own.
    """
    options = _parser().parse_args(arguments)
    try:
        return _delete(options)
    except _UsageError as error:
        print(f"greenapi: {error}", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        print("greenapi: interrupted, nothing was sent", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m greenapi",
        description="Deletes instances of a GREEN-API partner account.",
    )
    parser.add_argument("--version", action="version", version=f"greenapi {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    delete = commands.add_parser(
        "delete",
        help="delete instances by their ids",
        description=(
            "Deletes instances by their ids. The partner token comes from the variable "
            "GREENAPI_TOKEN or is asked for; it is never an argument, because arguments can be "
            "read by everybody on the machine."
        ),
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = delete.add_argument
    add("ids", nargs="*", metavar="ID", help="id of an instance: 1 to 10 digits")
    add(
        "--ids-file",
        metavar="FILE",
        help="read ids from a file, one per line; blank lines and those that begin with # are "
        "left out; - is the standard input",
    )
    add(
        "--url",
        default=os.environ.get("GREENAPI_URL") or _URL,
        help=f"default: the variable GREENAPI_URL, else {_URL}",
    )
    add("--yes", action="store_true", help="do not ask before deleting")
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
        "--session",
        choices=[policy.name.lower() for policy in Session],
        default="ignore",
        help="what to do about an instance that is still logged in (default: ignore)",
    )
    add("--max-in-flight", type=int, default=64, metavar="N", help="requests at once (64)")
    add("--rate", type=float, metavar="R", help="new requests per second (no limit)")
    add("--timeout", type=float, default=30.0, metavar="S", help="seconds per instance (30)")
    add("--ca-file", metavar="FILE", help="PEM bundle to trust instead of the system's")
    add("--proxy", help="URL of a proxy; an empty one for none (the environment's)")
    return parser


def _delete(options: argparse.Namespace) -> int:
    ids = _ids(options)
    token = os.environ.get("GREENAPI_TOKEN") or _ask_token()
    try:
        client = Client(
            options.url,
            token,
            timeout=options.timeout,
            max_in_flight=options.max_in_flight,
            requests_per_second=options.rate,
            session=options.session,
            ca_file=options.ca_file,
            proxy=options.proxy,
        )
    except Error as error:
        raise _UsageError(error.message) from error
    finally:
        del token
    with client:
        if not options.yes:
            _confirm(len(ids), options.url)
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

    for text in options.ids:
        read("argument", text)
    if options.ids_file is not None:
        for number, line in enumerate(_lines(options.ids_file), 1):
            text = line.strip()
            if text and not text.startswith("#"):
                read(f"{options.ids_file}:{number}", text)
    if problems:
        shown = problems[:20]
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown)} more")
        raise _UsageError("nothing was sent, correct these first:\n  " + "\n  ".join(shown))
    if not ids:
        raise _UsageError("no ids: give them as arguments or with --ids-file")
    different = list(dict.fromkeys(ids))
    if len(different) < len(ids):
        print(f"greenapi: {len(ids) - len(different)} ids given twice", file=sys.stderr)
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
        raise _UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _UsageError(f"{path} is not a text file (byte {error.start} is not UTF-8)") from error


# --- the terminal ---


def _require_terminal(purpose: str, instead: str) -> None:
    # Not the standard streams: they may be the list of ids and a log.
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError as error:
        raise _UsageError(f"there is no terminal to {purpose}: {instead}") from error


def _ask_token() -> str:
    _require_terminal("ask for the partner token", "set the variable GREENAPI_TOKEN")
    return getpass.getpass("Partner token: ")


def _confirm(count: int, url: str) -> None:
    _require_terminal("ask before deleting", "give --yes")
    instances = "1 instance" if count == 1 else f"{count} instances"
    with open("/dev/tty", "w") as out, open("/dev/tty", errors="replace") as answers:
        out.write(f"Delete {instances} at {url}? This cannot be undone. [y/N] ")
        out.flush()
        if answers.readline().strip().lower() not in ("y", "yes"):
            raise _UsageError("nothing was sent: not confirmed")


# --- deleting and reporting ---


class _Report:
    """What the user sees: a bar on a terminal where tqdm is installed, a line each otherwise."""

    def __init__(self, total: int, as_json: bool, ignore_not_found: bool) -> None:
        self._total = total
        self._as_json = as_json
        self._ignore_not_found = ignore_not_found
        self._began = time.monotonic()
        self._gone = 0
        self._not_deleted: list[int] = []
        self._unknown: list[int] = []
        self._pending: dict[int, None] = {}
        self._bar: Any = _bar(total)

    def draw(self, ids: Iterable[int]) -> Iterator[int]:
        """The ids, noted as they go out: after an interruption these are the uncertain ones."""
        for id_instance in ids:
            self._pending[id_instance] = None
            yield id_instance

    def add(self, result: Result) -> None:
        """Counts and shows a result."""
        del self._pending[result.id_instance]
        missing_is_gone = self._ignore_not_found and result.status is Status.NOT_FOUND
        gone = result.ok or missing_is_gone
        if gone:
            self._gone += 1
        elif result.effect is Effect.UNKNOWN:
            self._unknown.append(result.id_instance)
        else:
            self._not_deleted.append(result.id_instance)
        if self._as_json:
            self._line(json.dumps(_as_dict(result), ensure_ascii=False))
        elif not gone:
            self._line(f"{result.id_instance} {result.status.name}: {result.message}")
        elif self._bar is None:
            self._line(f"{result.id_instance} {result.status.name}")
        if self._bar is not None:
            if not gone:
                failures = len(self._not_deleted) + len(self._unknown)
                self._bar.set_postfix(failed=failures, refresh=False)
            self._bar.update()

    def end(self, interrupted: bool) -> int:
        """Sums up; returns the exit status of a run that was not interrupted."""
        if self._bar is not None:
            self._bar.close()
        self._unknown += self._pending
        not_started = self._total - self._gone - len(self._not_deleted) - len(self._unknown)
        self._bar = None
        if self._as_json:
            self._line(
                json.dumps(
                    {
                        "gone": self._gone,
                        "not_deleted": self._not_deleted,
                        "unknown": self._unknown,
                        "not_started": not_started,
                        "interrupted": interrupted,
                    }
                )
            )
        seconds = time.monotonic() - self._began
        say = [
            f"greenapi: {'interrupted: ' if interrupted else ''}{self._gone} gone, "
            f"{len(self._not_deleted)} not deleted, {len(self._unknown)} unknown, "
            f"{not_started} not started, of {self._total} in {seconds:.1f} s"
        ]
        if self._not_deleted:
            say.append("not deleted: " + " ".join(map(str, self._not_deleted)))
        if self._unknown:
            say.append("unknown, run again: " + " ".join(map(str, self._unknown)))
        print("\n".join(say), file=sys.stderr)
        return 3 if self._unknown else 1 if self._not_deleted else 0

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        print(text, flush=True)
        if self._bar is not None:
            self._bar.refresh()


def _bar(total: int) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    # One line drawn too late would stand there as long as a slow answer takes.
    return tqdm(total=total, unit="instance", file=sys.stderr, dynamic_ncols=True, miniters=1)


def _as_dict(result: Result) -> dict[str, Any]:
    return {
        "id_instance": result.id_instance,
        "status": result.status.name,
        "effect": result.effect.name.lower(),
        "code": result.code,
        "http_status": result.http_status,
        "attempts": result.attempts,
        "message": result.message,
    }


def _run(client: Client, ids: list[int], options: argparse.Namespace) -> int:
    report = _Report(len(ids), options.json, options.ignore_not_found)
    results = client.delete_instances(report.draw(ids))
    cut_short = 0
    try:
        for result in results:
            report.add(result)
    except KeyboardInterrupt:
        cut_short = _INTERRUPTED
    except BrokenPipeError:
        cut_short = _PIPE_CLOSED
        # The interpreter flushes standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Error as error:
        raise _UsageError(error.message) from error
    finally:
        results.close()
    status = report.end(interrupted=cut_short != 0)
    return cut_short or status
