"""The Python driver for the tables of test cases that run in every language.

    driver.py one_call|client|async|bulk|list|list_async < ids

Reads ids from standard input, one per line. GREENAPI_URL and GREENAPI_TOKEN give the address and
the token; GREENAPI_CA_FILE, GREENAPI_MAX_RETRIES, GREENAPI_TIMEOUT_MS and GREENAPI_SESSION set
options, except for one_call, which takes none. Prints for each id, separated by tabs: id, status,
code, HTTP status, attempts, the class of the error or ``ok``, and the message. The lists take no
ids, and ask for states if GREENAPI_STATES is set; driver.c describes their lines.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

# Use the package of this checkout, even if another one is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bindings" / "python" / "src"))

import greenapi

SESSIONS = get_args(greenapi.SessionPolicy)


def options() -> dict[str, Any]:
    """The options of a client that the environment sets."""
    found: dict[str, Any] = {}
    environment = os.environ
    if environment.get("GREENAPI_CA_FILE"):
        found["ca_file"] = environment["GREENAPI_CA_FILE"]
    if environment.get("GREENAPI_MAX_RETRIES"):
        found["max_retries"] = int(environment["GREENAPI_MAX_RETRIES"])
    if environment.get("GREENAPI_TIMEOUT_MS"):
        found["timeout"] = int(environment["GREENAPI_TIMEOUT_MS"]) / 1000
    session = environment.get("GREENAPI_SESSION")
    if session:
        found["session"] = SESSIONS[int(session)] if session.isdigit() else session
    return found


def show(result: greenapi.Result, outcome: str) -> None:
    """Prints the line for a result."""
    fields = (result.id_instance, int(result.status), result.code, result.http_status)
    print(*fields, result.attempts, outcome, result.message, sep="\t", flush=True)


def outcome_of(result: greenapi.Result) -> str:
    """The class of the error that a result raises, or ``ok``."""
    try:
        result.raise_for_status()
    except greenapi.Error as error:
        return type(error).__name__
    return "ok"


def one_call(url: str, token: str, ids: Iterator[int]) -> None:
    """Deletes each id with ``greenapi.delete_instance``."""
    for id_instance in ids:
        try:
            show(greenapi.delete_instance(url, token, id_instance), "ok")
        except greenapi.Error as error:
            show(error.result, type(error).__name__)


def client(url: str, token: str, ids: Iterator[int]) -> None:
    """Deletes each id with ``Client.delete_instance``."""
    with greenapi.Client(url, token, **options()) as made:
        for id_instance in ids:
            try:
                show(made.delete_instance(id_instance), "ok")
            except greenapi.Error as error:
                show(error.result, type(error).__name__)


def bulk(url: str, token: str, ids: Iterator[int]) -> None:
    """Deletes all ids with ``Client.delete_instances`` and prints them in order of completion."""
    with greenapi.Client(url, token, **options()) as made:
        for result in made.delete_instances(ids):
            show(result, outcome_of(result))


def use_async(url: str, token: str, ids: Iterator[int]) -> None:
    """Deletes each id with ``AsyncClient.delete_instance``."""

    async def main() -> None:
        async with greenapi.AsyncClient(url, token, **options()) as made:
            for id_instance in ids:
                try:
                    show(await made.delete_instance(id_instance), "ok")
                except greenapi.Error as error:
                    show(error.result, type(error).__name__)

    asyncio.run(main())


WITH_STATES = "GREENAPI_STATES" in os.environ
END = "0\t-\t-\t-\t-\tok\t-"


def show_instance(one: greenapi.Instance) -> None:
    """Prints the line for an instance."""
    times = [
        "-" if time is None else str(int(time.timestamp()))
        for time in (one.created, one.deleted, one.expires)
    ]
    flags = [
        str(int(flag)) for flag in (one.is_deleted, one.is_expired, one.is_free, one.is_partner)
    ]
    texts = [text.encode().hex() for text in (one.type, one.tariff, one.name)]
    print("instance", one.id_instance, int(one.state), *times, *flags, *texts, sep="\t")


def list_all(url: str, token: str, _ids: Iterator[int]) -> None:
    """Lists the account's instances with ``Client.instances``."""
    with greenapi.Client(url, token, **options()) as made:
        try:
            for one in made.instances(states=WITH_STATES):
                show_instance(one)
        except greenapi.Error as error:
            show(error.result, type(error).__name__)
        else:
            print(END)


def list_async(url: str, token: str, _ids: Iterator[int]) -> None:
    """Lists the account's instances with ``AsyncClient.instances``."""

    async def main() -> None:
        async with greenapi.AsyncClient(url, token, **options()) as made:
            try:
                async for one in made.instances(states=WITH_STATES):
                    show_instance(one)
            except greenapi.Error as error:
                show(error.result, type(error).__name__)
            else:
                print(END)

    asyncio.run(main())


MODES = {
    "one_call": one_call,
    "client": client,
    "bulk": bulk,
    "async": use_async,
    "list": list_all,
    "list_async": list_async,
}


def main() -> None:
    """Runs the mode that the first argument names."""
    if len(sys.argv) != 2 or sys.argv[1] not in MODES:
        sys.exit(f"usage: driver.py {'|'.join(MODES)} < ids")
    ids = (int(line) for line in sys.stdin if line.strip())
    try:
        MODES[sys.argv[1]](os.environ["GREENAPI_URL"], os.environ["GREENAPI_TOKEN"], ids)
    except greenapi.Error as error:
        # The client could not be made, so every id fails for that reason.
        for id_instance in ids:
            show(error.result._replace(id_instance=id_instance), type(error).__name__)


main()
