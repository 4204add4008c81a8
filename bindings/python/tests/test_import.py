"""The cost of ``import greenapi``, counted in modules: a clock would measure the machine."""

import subprocess
import sys
import typing

import greenapi
from greenapi import _abi
from programs import PATIENCE
from standin import Standin

# Each of them takes longer to import than everything that greenapi does at its own import.
DEAR = [
    *("argparse", "ast", "asyncio", "concurrent", "contextlib", "dataclasses", "datetime"),
    *("importlib.metadata", "inspect", "json", "logging", "pathlib", "re", "ssl", "subprocess"),
    *("threading", "traceback", "trio", "typing"),
]

IMPORTED = f"""
import sys
before = set(sys.modules)
import greenapi, os
{{use}}
print(*sorted(set({DEAR}) & set(sys.modules) - before))
"""


def imported(standin: Standin, use: str) -> list[str]:
    # Without site, whose modules differ from one machine to the next.
    done = subprocess.run(
        [sys.executable, "-S", "-c", IMPORTED.format(use=use)],
        env=standin.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_nothing_dear_is_imported(standin: Standin) -> None:
    assert imported(standin, "") == []


def test_nothing_dear_is_imported_for_a_deletion(standin: Standin) -> None:
    ids = standin.instances(3)
    use = f"""
url, token = os.environ["GREENAPI_URL"], os.environ["GREENAPI_TOKEN"]
assert greenapi.delete_instance(url, token, {ids[0]}).ok
with greenapi.Client(url, token) as client, client.delete_instances({ids[1:]}) as results:
    assert all(result.ok for result in results)
"""
    assert imported(standin, use) == []
    assert standin.deleted() == set(ids)


def test_what_is_loaded_later_is_there(standin: Standin) -> None:
    use = """
assert "AsyncClient" in dir(greenapi) and "AsyncClient" not in vars(greenapi)
from greenapi import *
assert AsyncClient is greenapi.AsyncClient and AsyncClient.__module__ == "greenapi"
try:
    greenapi.AsyncClent
except AttributeError as error:
    assert str(error) == "module 'greenapi' has no attribute 'AsyncClent'"
else:
    raise AssertionError
"""
    assert "asyncio" in imported(standin, use)


def test_session_policies_are_the_librarys() -> None:
    names = [policy.name.lower() for policy in _abi.Session]
    assert list(typing.get_args(greenapi.SessionPolicy)) == names
