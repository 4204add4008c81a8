"""Builds the library, the servers and the measured programs into target/ and benches/out/."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BENCHES = Path(__file__).resolve().parents[1]
ROOT = BENCHES.parent
OUT = BENCHES / "out"
C = BENCHES / "contenders" / "c"
GO = BENCHES / "contenders" / "go"
PYTHON = BENCHES / "contenders" / "python"

# The first version of Go with range over functions, which the Go module's interface needs.
GO_VERSION = (1, 23)


@dataclass
class Tools:
    """The paths of everything that was built."""

    library: Path
    standin: Path
    python: Path
    server: Path
    c: Path
    go: Path

    def c_program(self, name):
        """The command of a measured C program."""
        return [str(self.c / name)]

    def go_program(self, name):
        """The command of a measured Go program."""
        return [str(self.go / name)]

    def python_program(self, name):
        """The command of a measured Python program."""
        return [str(self.python), str(PYTHON / f"{name}.py")]


def build():
    """Builds everything that is missing or out of date."""
    _require_packages()
    OUT.mkdir(exist_ok=True)
    library = _rust("GREENAPI_LIBRARY", ["--lib"], "libgreenapi.so")
    standin = _rust("GREENAPI_STANDIN", ["-p", "greenapi-standin"], "greenapi-standin")
    # The dynamic loader looks for the library by its SONAME. A copy is used, so that a build
    # meanwhile cannot change the measured library.
    linked = OUT / "lib"
    shutil.rmtree(linked, ignore_errors=True)
    linked.mkdir()
    soname = _soname(library)
    library = Path(shutil.copy(library, linked / soname))
    (linked / "libgreenapi.so").symlink_to(soname)
    tools = Tools(
        library=library,
        standin=standin,
        python=_venv(),
        server=OUT / "server",
        c=OUT / "c",
        go=OUT / "go",
    )
    _c_programs(tools, linked)
    _go_programs(tools, linked)
    return tools


def _require_packages():
    missing = []
    for program, package in {
        "cc": "gcc",
        "pkg-config": "pkg-config",
        "wrk": "wrk",
        "taskset": "util-linux",
        "go": "golang (1.23 or newer: in Debian 12 from bookworm-backports)",
        "ldd": "libc-bin",
        "readelf": "binutils",
        "cargo": "cargo (or Rust from https://rustup.rs)",
    }.items():
        if shutil.which(program) is None:
            missing.append(package)
    if shutil.which("pkg-config") and _fails("pkg-config", "--exists", "libcurl"):
        missing.append("libcurl4-openssl-dev")
    if _fails(sys.executable, "-c", "import venv, ensurepip"):
        missing.append("python3-venv")
    if shutil.which("go"):
        found = _output("go", "env", "GOVERSION")
        version = re.match(r"go(\d+)\.(\d+)", found)
        if version and tuple(map(int, version.groups())) < GO_VERSION:
            missing.append(f"golang (1.23 or newer, this is {found}: bookworm-backports has one)")
    if missing:
        sys.exit("benches/run: install these Debian packages first: " + ", ".join(missing))


def _rust(variable, arguments, artefact):
    """Builds a part of the Rust workspace, unless the environment names a built one."""
    given = os.environ.get(variable)
    if given:
        path = Path(given).resolve()
        if not path.is_file():
            sys.exit(f"benches/run: {variable} names {given}, which is not a file")
        return path
    command = ["cargo", "build", "--release", *arguments]
    _run(command, cwd=ROOT)
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    return (ROOT / target / "release" / artefact).resolve()


def _soname(library):
    match = re.search(r"\(SONAME\).*\[(.*)\]", _output("readelf", "-d", str(library)))
    if match is None:
        sys.exit(f"benches/run: {library} has no SONAME")
    return match[1]


def _c_programs(tools, linked):
    tools.c.mkdir(exist_ok=True)
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}"]
    curl = _output("pkg-config", "--cflags", "--libs", "libcurl").split()
    ours = [f"-L{linked}", "-lgreenapi", f"-Wl,-rpath,{linked}"]
    for source, program, libraries in (
        (BENCHES / "server.c", tools.server, []),
        (C / "greenapi.c", tools.c / "greenapi", ours),
        (C / "memory.c", tools.c / "memory", ours),
        (C / "libcurl.c", tools.c / "libcurl", curl),
    ):
        _run(["cc", *flags, str(source), "-o", str(program), *libraries, "-pthread"])


def journal_shim(tools):
    """The library of the tests that counts the syncs of a journal."""
    shim = tools.c / "journal-shim.so"
    source = ROOT / "tests" / "journal" / "shim.c"
    flags = ["-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread"]
    _run(["cc", *flags, str(source), "-o", str(shim), "-ldl"])
    return shim


def _go_programs(tools, linked):
    package = OUT / "greenapi.pc"
    package.write_text(
        "Name: greenapi\n"
        "Description: the library as benches/run built it\n"
        f"Version: {library_version()}\n"
        f"Cflags: -I{ROOT / 'include'}\n"
        f"Libs: -L{linked} -lgreenapi\n"
    )
    environment = {
        **os.environ,
        "PKG_CONFIG_PATH": str(OUT),
        # These flags are not in the .pc file, because Go's build cache depends on these variables
        # but not on pkg-config's output: a cached program could be linked to another build.
        "CGO_CFLAGS": f"-O2 -I{ROOT / 'include'}",
        "CGO_LDFLAGS": f"-L{linked} -Wl,-rpath,{linked}",
        "GOWORK": "off",
    }
    for name in ("greenapi", "nethttp"):
        command = ["go", "build", "-ldflags=-s -w", "-o", str(tools.go / name), f"./{name}"]
        _run(command, cwd=GO, env=environment)


def library_version():
    """The version in Cargo.toml."""
    return re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]


def _venv():
    directory, requirements = OUT / "venv", BENCHES / "requirements.txt"
    python, installed = directory / "bin" / "python", directory / "requirements.txt"
    if not installed.is_file() or installed.read_text() != requirements.read_text():
        _run([sys.executable, "-m", "venv", "--clear", str(directory)])
        _run([str(python), "-m", "pip", "install", "--quiet", "-r", str(requirements)])
        shutil.copy(requirements, installed)
    return python


def _run(command, **options):
    print("+", " ".join(map(str, command)), file=sys.stderr, flush=True)
    # Only results go to the standard output.
    finished = subprocess.run(command, stdout=sys.stderr, **options)
    if finished.returncode != 0:
        sys.exit(f"benches/run: this failed: {' '.join(map(str, command))}")


def _output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _fails(*command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
