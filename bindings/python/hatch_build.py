"""Builds the Rust library into the wheel, and the Rust sources into the sdist.

The crate is two directories up in a checkout and in ``rust/`` in an sdist. Its ``Cargo.toml``
is where the version comes from, in either place.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface
from packaging.tags import platform_tags

HERE = Path(__file__).parent


def crate() -> Path:
    """The directory of the crate's ``Cargo.toml``."""
    for directory in (HERE / "rust", HERE.parents[1]):
        if (directory / "Cargo.toml").exists():
            return directory
    raise FileNotFoundError(
        "there is no Cargo.toml in rust/ (of an sdist) nor two directories up (in a checkout): "
        "build from the whole repository or from the sdist"
    )


class VersionHook(MetadataHookInterface):
    """Takes the version from ``Cargo.toml``, and the license from packaging/dist."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Sets the version, and writes it where the package reads it at run time."""
        manifest = (crate() / "Cargo.toml").read_text()
        # The first version of the file is the package's; tomllib is not in Python 3.9.
        found = re.search(r'^version = "(.+)"$', manifest, re.MULTILINE)
        if found is None:
            raise ValueError("Cargo.toml has no version")
        metadata["version"] = version = found[1]
        # A released wheel contains other projects' code too.
        metadata["license"] = os.environ.get("GREENAPI_WHEEL_LICENSE", "MIT")
        module = HERE / "src" / "greenapi" / "_version.py"
        text = module.read_text()
        current = re.sub('"[^"]*"$', f'"{version}"', text.rstrip()) + "\n"
        if text != current:
            module.write_text(current)


class LibraryHook(BuildHookInterface[Any]):
    """Adds the library to a wheel, the crate to an sdist."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs before the archive is written."""
        self._temporary = tempfile.TemporaryDirectory()
        if self.target_name == "sdist":
            build_data["force_include"][str(self._packaged_crate())] = "rust"
            return
        # packaging/dist has built it already, for another platform than this one perhaps.
        given = os.environ.get("GREENAPI_WHEEL_LIBRARY")
        library = Path(given) if given else build()
        platform = os.environ.get("GREENAPI_WHEEL_PLATFORM") or platform_tag(library)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        documents = os.environ.get("GREENAPI_WHEEL_DOCUMENTS")
        if documents:
            build_data.setdefault("sbom_files", []).append(
                str(Path(documents, "greenapi.cdx.json"))
            )
            for name in ("THIRD-PARTY.yml", "COPYRIGHT-library.html"):
                if Path(documents, name).exists():
                    build_data["force_include"][str(Path(documents, name))] = f"greenapi/{name}"
        # The file name that the loader looks for: without the version at its end.
        inside = HERE / "src" / "greenapi" / re.sub(r"(\.so)\.[0-9.]+$", r"\1", library.name)
        if version == "editable":
            # An editable package is used in place, so the library has to be there too.
            shutil.copy2(library, inside)
        else:
            inside.unlink(missing_ok=True)
            build_data["force_include"][str(library)] = f"greenapi/{inside.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Runs after the archive is written."""
        self._temporary.cleanup()

    def _packaged_crate(self) -> Path:
        """What ``cargo package`` would publish: complete by itself, without the workspace."""
        temporary = Path(self._temporary.name)
        command = ["cargo", "package", "--no-verify", "--allow-dirty", "--target-dir", temporary]
        cargo(*command, cwd=crate())
        [archive] = (temporary / "package").glob("*.crate")
        with tarfile.open(archive) as packed:
            # Without a filter, which not every Python 3.9 has: cargo just made this archive.
            packed.extractall(temporary / "unpacked")
        [directory] = (temporary / "unpacked").iterdir()
        # The commit: not known without git, and the same sources have to give the same bytes.
        (directory / ".cargo_vcs_info.json").unlink(missing_ok=True)
        return directory


def cargo(*command: Any, cwd: Path) -> str:
    """Runs cargo; returns what it prints."""
    try:
        done = subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        sys.exit("greenapi is built by Rust: install it from https://rustup.rs, or use a wheel")
    except subprocess.CalledProcessError as error:
        sys.exit(f"cargo failed with exit status {error.returncode}: see its messages above")
    return done.stdout


def build() -> Path:
    """Builds the shared library in the release profile; returns its path."""
    # Cargo's messages name the file, whatever cargo's configuration is.
    messages = cargo(
        *("cargo", "build", "--release", "--lib", "--locked"),
        "--message-format=json-render-diagnostics",
        cwd=crate(),
    )
    for line in messages.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and "cdylib" in message["target"]["kind"]:
            for name in message["filenames"]:
                if name.endswith((".so", ".dylib", ".dll")):
                    return Path(name)
    sys.exit("cargo built no shared library")


def platform_tag(library: Path) -> str:
    """The oldest platform on which the library loads, as far as its file shows."""
    if sys.platform == "linux":
        needed = re.findall(rb"GLIBC_(\d+)\.(\d+)", library.read_bytes())
        if needed:
            major, minor = max((int(one), int(other)) for one, other in needed)
            machine = sysconfig.get_platform().partition("-")[2]
            return f"manylinux_{major}_{minor}_{machine}"
    return next(platform_tags())
