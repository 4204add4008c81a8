"""The readers of a journal other than the library: `greenapi journal`, and the page's example."""

import textwrap
import zlib
from pathlib import Path
from typing import Any, Callable, Optional, Union

from greenapi import Client, Error
from greenapi._cli_common import UsageError
from greenapi._cli_journal import read

URL = "https://journal.example/prefix"
TIME = "2026-11-25T00:41:18.123Z "


def line(text: str) -> bytes:
    data = text.encode("latin-1")
    return data + b" %08x\n" % zlib.crc32(data)


def record(text: str) -> bytes:
    return line(TIME + text)


HEADER = line(f"greenapi-journal 1 {URL}")
WHOLE = HEADER + b"".join(
    record(text)
    for text in (
        "begin 1",
        "end 1 0 200 OK",
        "logout 2",
        "begin 2",
        "end 2 31 -5 CONNECTION_LOST",
        "begin 9999999999",
    )
)

RECORDS = [
    "begin 0",
    "begin 01",
    "begin -3",
    "begin 10000000000",
    "begin x",
    "begin 5 5",
    "begin",
    "begin  5",
    "logout 7 7",
    "other 5",
    "end 1 0 200 OK",  # It has ended already.
    "end 9 0 200 OK",  # It has not begun.
    "end 2 10 404 NOT_FOUND",
    "end 2 5 200 A_LATER_VERSIONS",
    "end 2 77 2147483647 A_LATER_VERSIONS",
    "end 2 77 2147483648 X",
    "end 2 2147483648 0 X",
    "end 2 -1 0 X",
    "end 2 0 -0 X",
    "end 2 0 00 X",
    "end 2 0 200",
    "end 2 0 200 ok",
    "end 2 0 200 OK OK",
    "end 2",
    "begin 5\xe9",
]
LINES = [
    "",
    "x",
    "x begin 5",
    "2026-02-29T00:41:18.123Z begin 5",
    "2028-02-29T00:41:18.123Z begin 5",
    "2026-11-25T24:00:00.000Z begin 5",
    "2026-11-25T23:59:60.000Z begin 5",
    "1969-12-31T23:59:59.999Z begin 5",
    "2026-11-25 00:41:18.123Z begin 5",
]
ENDS = [
    *(b"x", b"hello", b"\n", b"hello\n", b"\xff", bytes(1), bytes(50), bytes(40_000)),
    *(record("begin 5")[:length] + bytes(3) for length in range(0, 46, 5)),
    # Only the line end is missing, and a byte of the checksum is wrong.
    *(record("begin 5")[:-1], record("begin 5")[:-2] + b"g", record("begin 5 5")[:-1]),
    *(record("begin 0")[:-1], record("end 2 0 200 OK")[:-4], record("end 2 0 200 OK OK")[:-4]),
    # The byte before the checksum.
    record("begin 5").replace(b" begin 5 ", b" begin 5_"),
]
HEADERS: list[Union[str, bytes]] = [
    *(b"", bytes(5), b"greenapi-jour", HEADER[:-1], b"hello", b"hello\n"),
    *(f"greenapi-journal {version} {URL}" for version in ("2", "0", "01", "-2", "x")),
    *("greenapi-journal 1", "greenapi-journal", "x", f"greenapi-journal 1 {URL}\xe9"),
]

FLIPPED = [
    WHOLE[:place] + bytes([WHOLE[place] ^ 1 << place % 8]) + WHOLE[place + 1 :]
    for place in range(0, len(WHOLE) - 1, 5)
]
FILES: list[bytes] = [
    WHOLE,
    *(WHOLE[:length] for length in range(len(HEADER), len(WHOLE), 3)),
    *FLIPPED,
    *(WHOLE + record(text) for text in RECORDS),
    *(WHOLE + line(text) for text in LINES),
    *(WHOLE + end for end in ENDS),
    *(line(header) if isinstance(header, str) else header for header in HEADERS),
]


def of_the_library(path: Path) -> str:
    try:
        Client(URL, "token", journal=path).close()
    except Error as error:
        return error.message
    return ""


def of_the_command(path: Path) -> str:
    try:
        read(str(path))
    except UsageError as error:
        return str(error)
    return ""


def test_the_command_refuses_what_the_library_refuses(tmp_path: Path) -> None:
    """Each file of the table, which the library may change: it cuts off an interrupted write."""
    for number, data in enumerate(FILES):
        path = tmp_path / f"{number}"
        path.write_bytes(data)
        said = of_the_command(path)
        torn = not said and read(str(path)).torn
        truth = of_the_library(path)
        what = f"{data[-60:]!r}: {said} | {truth}"
        if "no journal yet" in said:
            assert not truth, what
            assert path.read_bytes() == HEADER, what
            continue
        assert bool(said) == bool(truth), what
        assert ("later version" in said) == ("newer greenapi" in truth), what
        assert ("not a journal" in said) == ("not that of a journal" in truth), what
        if "damaged" in said:
            place = said.partition(" is damaged")[0].rpartition(":")[2]
            assert f"line {place} is damaged" in truth, what
        elif not said:
            assert torn == (len(path.read_bytes()) < len(data)), what


def test_a_journal_of_a_later_version_of_the_library_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "later"
    path.write_bytes(WHOLE + record("end 2 77 0 NEWER") + record("end 2 5 0 GONE_SOMEHOW"))
    assert read(str(path)).ends == {1: 0, 2: 5, 9_999_999_999: None}


def reader_of_the_page() -> Callable[[Path], dict[int, Any]]:
    """The reader in docs/JOURNAL.md."""
    page = Path(__file__).parents[3] / "docs" / "JOURNAL.md"
    text = page.read_text(encoding="utf-8").partition("This is a reader.")[2]
    lines = text.partition("\n\n")[2].splitlines()
    count = next(n for n, one in enumerate(lines) if one and not one.startswith("    "))
    names: dict[str, Any] = {}
    exec(textwrap.dedent("\n".join(lines[:count])), names)
    reader: Callable[[Path], dict[int, Any]] = names["read"]
    return reader


def test_the_reader_in_the_page(tmp_path: Path) -> None:
    path, reader = tmp_path / "journal", reader_of_the_page()
    for data in FILES:
        path.write_bytes(data)
        states: Optional[dict[int, Any]]
        try:
            states = reader(path)
        except ValueError:
            states = None
        assert states is None or data not in FLIPPED, data
        if not of_the_command(path):
            assert states == read(str(path)).ends, data
