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
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from ._abi import State

_URL = "https://api.green-api.com"
USAGE = 2
OUTPUT_LOST = 141


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


def in_api(state: State) -> str:
    """A state as the API writes it: notAuthorized."""
    first, *rest = state.name.lower().split("_")
    return first + "".join(word.title() for word in rest)


def prepare_streams() -> None:
    """Opens the standard streams that are closed, and makes output for other programs UTF-8.

    A closed stream is None in Python, and a file or connection of the library would get its
    descriptor. JSON has to be UTF-8, but for files and pipes Windows has an encoding of its own,
    which lacks most characters that a name of an instance may contain.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    if sys.platform != "win32" or "PYTHONIOENCODING" in os.environ:
        return
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            stream.reconfigure(encoding="utf-8")


def reader_left(error: OSError) -> bool:
    """Whether writing failed because the reader of the output went away."""
    invalid = sys.platform == "win32" and error.errno == errno.EINVAL
    return isinstance(error, BrokenPipeError) or invalid


def lose_output(stream: TextIO) -> None:
    """Discards what is still written to a stream that cannot be written to."""
    # The interpreter flushes the standard streams once more at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say(text: str) -> None:
    """Prints to the standard error, if that can be written to: what was done stays done."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        lose_output(sys.stderr)


# --- signals ---

_ENDING = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]


_heeded = True
_instead: Callable[[], object] | None = None
_exit_status = 0


def ignore_signals() -> None:
    """Ignores the signals of `signals` from now on."""
    global _heeded
    _heeded = False


def at_signal(function: Callable[[], object]) -> None:
    """Has the first signal of `signals` call a function from now on, instead of raising."""
    global _instead
    _instead = function


def exit_status() -> int:
    """The exit status for the signal at which the function of `at_signal` was called, else 0."""
    return _exit_status


def _stop(number: int, _: Any) -> None:
    global _exit_status
    # Only once: a second one must not keep the first one's handling from reporting what was done.
    if not _heeded:
        return
    ignore_signals()
    stopped = Stopped(number)
    if _instead is None:
        raise stopped
    _exit_status = stopped.exit_status
    _instead()


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Turns the first SIGINT, SIGTERM or SIGHUP, on Windows Ctrl-Break too, into `Stopped`."""
    global _heeded, _instead, _exit_status
    _heeded, _instead, _exit_status = True, None, 0
    before = {}
    try:
        for number in _ENDING:
            # A signal that is ignored (nohup, a shell's background job) stays ignored.
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, _stop)
    except ValueError:
        # Not in the main thread, where Python allows no handlers to be set.
        pass
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
