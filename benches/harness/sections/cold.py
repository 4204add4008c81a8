"""From the start of a Python process to its first deletion over TLS."""

from pathlib import Path

import build
import programs
from programs import TOKEN
from section import Section, number, table

# The bundle that urllib3 and http.client trust by default; every program reads it when it starts.
SYSTEM_CAS = Path("/etc/ssl/certs/ca-certificates.crt")

MODULES = {
    "greenapi": "greenapi",
    "http.client": "http.client, ssl",
    "urllib3": "urllib3",
    "requests": "requests",
    "httpx": "httpx",
    "aiohttp": "aiohttp",
}


def measure(tools, quick):
    """Runs the section."""
    rounds = 2 if quick else 21
    with programs.standin(tools) as standin:
        bundle = build.OUT / "cold-cas.pem"
        system = SYSTEM_CAS.read_text() if SYSTEM_CAS.exists() else ""
        bundle.write_text(system + Path(standin.ca_file).read_text())

        def first_deletion(name):
            command = tools.python_program(f"cold/with_{name.replace('.', '_')}")

            def delete():
                output = programs.run(tools, command, standin.https, TOKEN, 1, ca_file=str(bundle))
                if output.strip() != "True" or standin.deleted() != {1}:
                    raise programs.Failed(f"{name} did not delete: {output}")

            def run():
                standin.reset(1, 1)
                return {"seconds": programs.stopwatch(delete)}

            return run

        def start(modules):
            command = [str(tools.python), "-c", f"import {modules}"]
            return lambda: {"seconds": programs.stopwatch(lambda: programs.run(tools, command))}

        contenders = {"": start("sys")}
        for name, modules in MODULES.items():
            contenders[f"import {name}"] = start(modules)
            contenders[name] = first_deletion(name)
        for contender in contenders.values():
            # A first run compiles the modules and fills the file cache.
            contender()
        series = programs.interleave(rounds, contenders)

    bare = series[""].median("seconds")
    rows = [
        [
            name,
            number((series[f"import {name}"].median("seconds") - bare) * 1000),
            number(series[name].median("seconds") * 1000),
            number((series[name].median("seconds") - bare) * 1000),
        ]
        for name in MODULES
    ]
    count = system.count("BEGIN CERTIFICATE") + 1
    text = (
        "From the start of a Python process to its end, with one deletion over TLS, default "
        f"options and {count} trusted certificates in a file. Import: the import alone. The "
        f"interpreter alone takes {number(bare * 1000)} ms, which only the second column includes."
        "\n\n" + table(["", "import ms", "start to deletion ms", "above the interpreter ms"], rows)
    )
    return Section("Cold start in Python", text)
