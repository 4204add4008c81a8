"""Writes results.md and results.svg."""

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import build
from section import Section, table

# Measured before the build, which adds load.
LOAD_BEFORE = os.getloadavg()[0]
BUSY = os.cpu_count() / 4 < LOAD_BEFORE


class Results:
    """The results of all sections, in ``order``. A run may replace only some of them."""

    def __init__(self, quick, order):
        self._order = order
        self._raw = build.OUT / ("quick.json" if quick else "results.json")
        directory = build.OUT if quick else build.BENCHES
        self._markdown = directory / ("quick.md" if quick else "results.md")
        self._svg = self._markdown.with_suffix(".svg")
        self._quick = quick
        self._sections = {}
        if self._raw.is_file():
            self._sections = {
                name: Section(**section)
                for name, section in json.loads(self._raw.read_text()).items()
            }

    def store(self, name, section):
        """Stores a section, and replaces an older one of that name."""
        now = datetime.datetime.now(datetime.UTC)
        busy = ": the machine was busy with other things" if BUSY else ""
        section.measured = f"{now:%Y-%m-%d %H:%M} UTC, load before the run {LOAD_BEFORE:.1f}{busy}"
        self._sections[name] = section
        raw = {name: asdict(section) for name, section in self._sections.items()}
        self._raw.write_text(json.dumps(raw, indent=1))

    def write(self, tools):
        """Writes the page and the chart with all stored sections."""
        ordered = [self._sections[name] for name in self._order if name in self._sections]
        warning = "**Small sizes (`--quick`): not for quoting.**\n\n" if self._quick else ""
        chart = {}
        for section in ordered:
            chart.update(section.chart)
        # Some sections have nothing to draw.
        image = f"![The results as a chart]({self._svg.name})\n\n" if chart else ""
        page = (
            "# Results\n\n"
            "Written by `benches/run`; [README.md](README.md) says what is measured and how.\n\n"
            f"{warning}{image}{machine(tools)}\n"
            + "\n".join(section.markdown for section in ordered)
        )
        written = [self._markdown]
        self._markdown.write_text(page)
        if chart:
            today = datetime.datetime.now(datetime.UTC).date()
            caption = f"{today}, {_processor()}, {os.cpu_count()} cores, loopback"
            subprocess.run(
                [tools.python, Path(__file__).with_name("chart.py"), self._svg],
                input=json.dumps({"panels": chart, "caption": caption}),
                text=True,
                check=True,
            )
            written.append(self._svg)
        for path in written:
            print(f"wrote {path.relative_to(build.ROOT)}", file=sys.stderr)


def machine(tools):
    """A table of the machine and the programs' versions."""

    def output(*command):
        # wrk prints its version and exits with 1.
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ).stdout

    packages = output(
        str(tools.python),
        "-c",
        "from importlib.metadata import version\n"
        "for name in ('requests', 'httpx', 'aiohttp', 'whatsapp-api-client-python'):\n"
        "    print(name, version(name), end=', ')",
    ).rstrip(", ")
    libcurl = output("pkg-config", "--modversion", "libcurl").strip()
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]
    rows = [
        ("Machine", f"{_processor()}, {os.cpu_count()} cores, {int(memory) / 2**20:.0f} GiB"),
        ("System", f"{_distribution()}, Linux {platform.release()}"),
        ("greenapi", f"{build.library_version()}, {output('rustc', '--version').split(' (')[0]}"),
        ("C", f"{output('cc', '--version').splitlines()[0]}; libcurl {libcurl}"),
        ("Go", output("go", "env", "GOVERSION").strip()),
        ("Python", f"{output(str(tools.python), '--version').split()[1]}; {packages}"),
        ("wrk", re.search(r"wrk (?:debian/)?(\S+)", output("wrk", "-v"))[1]),
    ]
    return table(["", ""], rows).replace("---:", "---") + "\n"


def _processor():
    return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]


def _distribution():
    return platform.freedesktop_os_release()["PRETTY_NAME"]
