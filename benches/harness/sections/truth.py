"""Which library reports each failure correctly, compared with what really happened."""

import sys
from dataclasses import dataclass, field

import programs
from programs import TOKEN
from section import Section, aim

from .peers import contenders

ID = 1101000001

WRONG_HOST_PAGE = "<html><body><h1>Welcome to nginx!</h1></body></html>"


@dataclass
class Case:
    """One failure, and whether the stand-in carries the deletion out in spite of it."""

    name: str
    fault: dict = field(default_factory=dict)
    # How many requests the fault affects; None for all.
    times: int | None = None
    exists: bool = True
    token: str = TOKEN


def _status(status, what):
    return Case(f"HTTP {status}, {what}", {"status": status, "act": False})


CASES = [
    Case("deleted"),
    Case("`code` 404 inside HTTP 200: no such instance", exists=False),
    Case("`code` 401 inside HTTP 200: wrong token", token="gac.wrong"),
    _status(400, "bad request"),
    _status(401, "wrong token"),
    _status(403, "not this token's"),
    Case(
        "HTTP 404, a page: wrong host or path",
        {"status": 404, "act": False, "body": WRONG_HOST_PAGE},
    ),
    Case("HTTP 200, a page: wrong host", {"status": 200, "act": False, "body": WRONG_HOST_PAGE}),
    _status(429, "too many requests"),
    _status(466, "quota used up"),
    _status(499, "client closed"),
    _status(500, "internal"),
    _status(502, "no answer from the target"),
    Case("HTTP 502 once, and it was deleted", {"status": 502, "act": True}, times=1),
    Case(
        "answer lost: connection closed, and it was deleted",
        {"stage": "acted", "then": "fin"},
        times=1,
    ),
    Case(
        "answer lost: connection reset, and it was deleted",
        {"stage": "acted", "then": "reset"},
        times=1,
    ),
    Case("answer cut in half, and it was deleted", {"stage": "half_body", "then": "fin"}, times=1),
]

STALE = "kept connection closed unannounced"


def measure(tools, quick):
    """Runs the section."""
    everybody = {
        "greenapi, C one call": (tools.c_program("greenapi"), "truth-one-call"),
        **{name: (command, "truth") for name, command in contenders(tools).items()},
    }
    rows = []
    with programs.standin(tools) as standin:
        for case in CASES:
            rows.append(
                [case.name, *(_cell(tools, standin, *how, case) for how in everybody.values())]
            )
            print(f"  {case.name}", file=sys.stderr, flush=True)
        calls = 150 if quick else 3000
        stale = {name: _stale(tools, standin, *how, calls) for name, how in everybody.items()}
        stale_row = [f"{STALE}: wrong or failed, of {calls:,}"]
        rows.append(stale_row + [f"{'✓' if n == 0 else '✗'} {n:,}" for n in stale.values()])
        rows.append(
            ["the token stays out of the error's text"]
            + [_leak(tools, standin, *how) for how in everybody.values()]
        )
    right = {
        name: sum(row[column].startswith("✓") for row in rows)
        for column, name in enumerate(everybody, start=1)
    }
    ours = [name for name in everybody if name.startswith("greenapi")]
    wrong = sum(len(rows) - right[name] for name in ours)
    met = aim("greenapi right in every row, from every language", f"{wrong} wrong", wrong == 0)
    rows.append([f"**right, of {len(rows)}**", *(f"**{n}**" for n in right.values())])
    header = ["", *everybody]
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    text = (
        "Each library makes one deletion, as its documentation shows, against the stand-in with "
        "this fault; its report is compared with the stand-in's ledger. ✓: the report is true. "
        "Only greenapi reports “unknown”: calling again is safe and shows the outcome. "
        "✗: the library reports “deleted” although nothing was deleted, or a failure although the "
        "instance is gone.\n\n"
        f"{table}\n\n{met}\n\n"
        "¹ right in a program that does not trust the status and looks for "
        '`"deleteInstanceAccount": true` in the body by itself.'
    )
    chart = {
        f"Right about what happened, of {len(rows) - 1} cases": right,
        f"Stale connections: failed of {calls:,} calls": stale,
    }
    return Section("Truth", text, chart)


def _words(tools, standin, command, way, count, url=None, token=TOKEN):
    """The reports of a contender: {id: (report, report by the body, reason)}."""
    output = programs.run(
        tools,
        command,
        way,
        url or standin.http,
        token,
        ID,
        count,
        1,
        # The errors that the program prints are about the faults under test.
        check=False,
    )
    words = {}
    for line in output.splitlines():
        id_instance, word, by_body, reason = line.split("\t")
        words[int(id_instance)] = (word, by_body, reason)
    if len(words) != count:
        raise programs.Failed(f"{command[-1]}: {len(words)} reports about {count} deletions")
    return words


def _is_true(word, deleted):
    return word == "unknown" or (word == "deleted") == deleted


def _cell(tools, standin, command, way, case):
    standin.reset(ID, int(case.exists), case.fault, case.times)
    word, by_body, _ = _words(tools, standin, command, way, 1, token=case.token)[ID]
    deleted = ID in standin.deleted()
    if _is_true(word, deleted):
        return f"✓ {word}"
    return f"✗ {word}" + ("¹" if _is_true(by_body, deleted) else "")


def _stale(tools, standin, command, way, calls):
    standin.reset(ID, calls, {"then": "close_unannounced"})
    words = _words(tools, standin, command, way, calls)
    return sum(word != "deleted" for word, _, _ in words.values())


def _leak(tools, standin, command, way):
    word, _, reason = _words(tools, standin, command, way, 1, url=standin.refused)[ID]
    if word != "failed":
        raise programs.Failed(f"{command[-1]}: it reports {word}, but nothing listens there")
    return "✗ printed" if TOKEN in reason else "✓"
