"""The command ``greenapi``: lists instances, deletes them, and shows a journal."""

from __future__ import annotations

import argparse
import sys

from . import __version__, _cli_delete, _cli_journal, _cli_list
from ._cli_common import (
    OUTPUT_LOST,
    USAGE,
    Stopped,
    UsageError,
    lose_output,
    prepare_streams,
    reader_left,
    say,
    signals,
)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status.

    Args:
        arguments: The arguments after the program's name; ``None`` for the process's own.
    """
    prepare_streams()
    given = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    options = parser.parse_args(given)
    options.given = given
    try:
        with signals():
            status: int = options.run(options)
            sys.stdout.flush()
            return status
    except UsageError as error:
        say(f"greenapi: {error}")
        return USAGE
    except Stopped as stopped:
        say("greenapi: interrupted, nothing was deleted")
        return stopped.exit_status
    except OSError as error:
        lose_output(sys.stdout)
        if not reader_left(error):
            say(f"greenapi: the output cannot be written: {error.strerror}")
        return OUTPUT_LOST


# --- the command line ---


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="greenapi",
        description="Finds and deletes instances of a GREEN-API partner account.",
        epilog="The partner token comes from the variable GREENAPI_TOKEN or is asked for; it is "
        "never an argument, because arguments can be read by everybody on the machine.",
    )
    parser.add_argument("--version", action="version", version=f"greenapi {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (_cli_list, _cli_delete, _cli_journal):
        module.add_to(commands)
    return parser
