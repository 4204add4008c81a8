"""Cold start, calls, memory and size, compared with the libraries that people use instead."""

import json
import re
import subprocess
from pathlib import Path

import build
import programs
from programs import TOKEN, cpu_us, peak_mib
from section import Section, number, table

# Libraries that every system has.
BASE_PACKAGES = re.compile(
    r"/(libc|libm|libdl|libpthread|librt|libresolv|libgcc_s|ld-linux[^/]*)\.so"
)

SDK = "whatsapp-api-client-python"


def contenders(tools):
    """The commands of all compared libraries, by name."""
    return {
        "greenapi, C": tools.c_program("greenapi"),
        "greenapi, Go": tools.go_program("greenapi"),
        "greenapi, Python": tools.python_program("greenapi_blocking"),
        "libcurl": tools.c_program("libcurl"),
        "Go net/http": tools.go_program("nethttp"),
        "requests": tools.python_program("with_requests"),
        "httpx": tools.python_program("with_httpx"),
        "aiohttp": tools.python_program("with_aiohttp"),
        "GREEN-API's Python SDK": tools.python_program("with_sdk"),
    }


def measure(tools, quick):
    """Runs the section."""
    everybody = contenders(tools)
    cold = _cold_start(tools, everybody, 2 if quick else 15)

    with programs.pinned(server="0", client="1"), programs.server(tools) as url:

        def contender(command):
            def run():
                calls = 100 if quick else 2000
                return programs.figures(tools, command, "warm", url, TOKEN, 1, calls, 1)

            return run

        warm = programs.interleave(
            1 if quick else 5, {name: contender(command) for name, command in everybody.items()}
        )

    sizes = _sizes(tools)
    rows = [
        [
            name,
            number(cold[name].median("seconds") * 1000),
            number(warm[name].median("median_us")),
            number(warm[name].median(cpu_us)),
            number(warm[name].median(peak_mib)),
            number(sizes[name]),
        ]
        for name in everybody
    ]
    text = (
        "Cold start: from the start of the process to its end, with one deletion over TLS, "
        "interpreter and imports included. Warm: one call after the other over plain HTTP on "
        "loopback (the SDK asks for a new connection each time); the server has one core and the "
        "contender the other. Size: the library with what it depends on, without the language's "
        "own runtime and the C library; for Go the stripped program.\n\n"
        + table(
            ["", "cold start ms", "warm call µs", "CPU µs/call", "peak RSS MiB", "size MiB"], rows
        )
    )
    chart = {
        "Cold start to the first deletion, ms": {
            name: one.median("seconds") * 1000 for name, one in cold.items()
        }
    }
    return Section("Beside its peers", text, chart)


def _cold_start(tools, everybody, rounds):
    with programs.standin(tools) as standin:

        def contender(command):
            def first_deletion():
                output = programs.run(
                    tools, command, "truth", standin.https, TOKEN, 1, 1, 1, ca_file=standin.ca_file
                )
                if output.split("\t")[1:2] != ["deleted"] or standin.deleted() != {1}:
                    raise programs.Failed(f"{command[-1]} did not delete: {output}")

            def run():
                standin.reset(1, 1)
                return {"seconds": programs.stopwatch(first_deletion)}

            return run

        for command in everybody.values():
            # A first run compiles the modules and fills the file cache.
            contender(command)()
        return programs.interleave(
            rounds, {name: contender(command) for name, command in everybody.items()}
        )


def _sizes(tools):
    """The size of each library on disk in MiB."""
    library = tools.library.stat().st_size
    module = build.ROOT / "bindings" / "python" / "src" / "greenapi"
    sources = sum(path.stat().st_size for path in module.rglob("*.py"))
    sizes = {
        "greenapi, C": library,
        "greenapi, Go": library + Path(*tools.go_program("greenapi")).stat().st_size,
        "greenapi, Python": library + sources,
        "libcurl": _shared_objects(tools.c_program("libcurl")[0]),
        "Go net/http": Path(*tools.go_program("nethttp")).stat().st_size,
        **_distributions(tools, "requests", "httpx", "aiohttp", SDK),
    }
    sizes["GREEN-API's Python SDK"] = sizes.pop(SDK)
    return {name: size / 2**20 for name, size in sizes.items()}


def _shared_objects(program):
    """The size of all shared libraries of a program, except the C library."""
    output = subprocess.run(["ldd", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    paths = re.findall(r"=> (/\S+)", output)
    return sum(Path(path).stat().st_size for path in paths if not BASE_PACKAGES.search(path))


def _distributions(tools, *names):
    """The size of installed Python packages with their dependencies in bytes."""
    program = """
import json, sys
from importlib.metadata import PackageNotFoundError, distribution
from pip._vendor.packaging.requirements import Requirement

def closure(name, seen):
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return seen
    if found.metadata["Name"].lower() not in seen:
        seen[found.metadata["Name"].lower()] = sum(
            path.locate().stat().st_size
            for path in found.files
            if path.suffix != ".pyc" and path.locate().is_file()
        )
        for line in found.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                closure(requirement.name, seen)
    return seen

print(json.dumps({name: sum(closure(name, {}).values()) for name in sys.argv[1:]}))
"""
    output = subprocess.run(
        [tools.python, "-c", program, *names], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return json.loads(output)
