"""The version, and the examples that a newcomer copies."""

import re
import subprocess
import sys
from pathlib import Path

import greenapi
from programs import PATIENCE
from standin import Standin

PACKAGE = Path(__file__).parents[1]


def test_version_is_the_crates() -> None:
    manifest = (PACKAGE.parents[1] / "Cargo.toml").read_text()
    found = re.search(r'^version = "(.+)"$', manifest, re.MULTILINE)
    assert found is not None
    # Any build of the package corrects _version.py.
    assert greenapi.__version__ == found[1]
    assert greenapi.library_version() == found[1]


def test_async_example(standin: Standin) -> None:
    ids = standin.instances(3)
    command = [sys.executable, str(PACKAGE / "examples" / "delete_async.py")]
    for wanted, code in ((ids, 0), ([ids[0], ids[-1] + 1], 1)):
        done = subprocess.run(
            [*command, *map(str, wanted)],
            env=standin.environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (code, "")
        assert {int(line.split(":")[0]) for line in done.stdout.splitlines()} == set(wanted)
    assert standin.deleted() == set(ids)
