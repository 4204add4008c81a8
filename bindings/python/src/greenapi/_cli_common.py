"""The code that the subcommands of ``greenapi`` share: options, signals, output, usage errors."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any

from ._abi import Session
from ._client import Client
from ._errors import Error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

_URL = "https://api.green-api.com"
USAGE = 2
PIPE_CLOSED = 141


class UsageError(Exception):
    """A mistake that the user has to correct; nothing was sent."""


class Stopped(BaseException):
    """The process was asked to end, by Ctrl-C or another signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number


def add_client_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a client, each under the name of its keyword in `Client`."""
    add = parser.add_argument_group("connection").add_argument
    add(
        "--url",
        default=os.environ.get("GREENAPI_URL") or _URL,
        help=f"default: the variable GREENAPI_URL, else {_URL}",
    )
    add("--timeout", type=float, metavar="S", help="seconds per instance (30)")
    add("--connect-timeout", type=float, metavar="S", help="seconds to connect (10)")
    add("--max-retries", type=int, metavar="N", help="repetitions of what may pass (3)")
    add("--max-in-flight", type=int, metavar="N", help="requests at once (64)")
    add(
        *("--rate", "--requests-per-second"),
        dest="requests_per_second",
        type=float,
        metavar="R",
        help="new requests per second (no limit)",
    )
    add("--ca-file", metavar="FILE", help="PEM bundle to trust instead of the system's")
    add("--proxy", help="URL of a proxy; an empty one for none (the environment's)")
    add(
        "--instance-url",
        metavar="URL",
        help="where instances are asked for their states; {pool} in it is the first four digits "
        "of the id (the URL of the account)",
    )
    add(
        "--allow-http",
        action="store_true",
        default=None,
        help="permit plain http:// to other machines; it shows the token to everybody on the way",
    )
    parser.set_defaults(parser=parser)


def add_session_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--session``."""
    parser.add_argument(
        "--session",
        choices=[policy.name.lower() for policy in Session],
        help="what to do about an instance that is still logged in (default: ignore)",
    )


def make_client(options: argparse.Namespace) -> Client:
    """Makes the client that the command line describes."""
    token = os.environ.get("GREENAPI_TOKEN") or _ask_token()
    keywords = Client.__init__.__kwdefaults__ or {}
    chosen = {
        name: value
        for name, value in vars(options).items()
        if name in keywords and value is not None
    }
    try:
        return Client(options.url, token, **chosen)
    except Error as error:
        raise UsageError(in_flags(options.parser, error.message)) from error
    finally:
        del token


def in_flags(parser: argparse.ArgumentParser, message: str) -> str:
    """A message that names keywords, with the flags that the parser has for them."""
    for action in parser._actions:
        if not action.option_strings:
            continue
        flag, name = action.option_strings[0], action.dest
        # A message begins with the name that it refuses; elsewhere only an underscore shows that a
        # word is a name.
        if "_" in name:
            message = re.sub(rf"\b{name}(=True)?\b", flag, message)
        else:
            message = re.sub(rf"^{name}\b", flag, message)
    return message


def again(options: argparse.Namespace, *more: str) -> str:
    """The command line, quoted for a shell, with further arguments."""
    # A proxy's password stays out of logs.
    shown = [re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:PASSWORD@", one) for one in options.given]
    words = ["greenapi", *shown, *(one for one in more if one not in shown)]
    if sys.platform == "win32":
        from subprocess import list2cmdline

        return list2cmdline(words)
    return shlex.join(words)


# --- the terminal ---

# Not the standard streams: those may be the list of ids and a log.
TERMINAL_IN, TERMINAL_OUT = (
    ("CONIN$", "CONOUT$") if sys.platform == "win32" else ("/dev/tty", "/dev/tty")
)


def require_terminal(purpose: str, instead: str) -> None:
    """Raises `UsageError` where nobody can be asked."""
    try:
        os.close(os.open(TERMINAL_IN, os.O_RDWR | getattr(os, "O_NOCTTY", 0)))
    except OSError as error:
        raise UsageError(f"there is no terminal to {purpose}: {instead}") from error


def _ask_token() -> str:
    import getpass

    require_terminal("ask for the partner token", "set the variable GREENAPI_TOKEN")
    return getpass.getpass("Partner token: ")


def printable(text: str) -> str:
    """A text from the API without line ends and terminal escapes."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def prepare_output() -> None:
    """Makes output for other programs UTF-8, as JSON has to be.

    For files and pipes Windows has an encoding of its own, which lacks most characters that a name
    of an instance may contain.
    """
    if sys.platform != "win32" or "PYTHONIOENCODING" in os.environ:
        return
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            stream.reconfigure(encoding="utf-8")


def reader_left(error: OSError) -> bool:
    """Whether writing failed because the reader of the output went away."""
    invalid = sys.platform == "win32" and error.errno == errno.EINVAL
    return isinstance(error, BrokenPipeError) or invalid


def lose_output() -> None:
    """Discards further standard output, whose reader went away."""
    # The interpreter flushes standard output once more at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- signals ---

_ENDING = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Turns SIGINT, SIGTERM and SIGHUP, on Windows Ctrl-Break too, into `Stopped`."""

    def stop(number: int, _: Any) -> None:
        raise Stopped(number)

    with _handled_by(stop):
        yield


@contextlib.contextmanager
def _handled_by(handler: Any) -> Iterator[None]:
    before = {}
    try:
        for number in _ENDING:
            # A signal that is ignored (nohup, a shell's background job) stays ignored.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    except ValueError:
        # Not in the main thread, where Python allows no handlers to be set.
        pass
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Blocks the signals of `signals` during a short piece of work."""
    if sys.platform == "win32":
        # Windows cannot block them.
        came: list[int] = []
        with _handled_by(lambda number, _: came.append(number)):
            yield
        for number in came[:1]:
            signal.raise_signal(number)
        return
    old = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
