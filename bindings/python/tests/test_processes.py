"""Forks, worker processes, and the end of the interpreter, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

import greenapi
from programs import finish, not_on_windows, program, run
from standin import Standin

PRELUDE = """
import asyncio, multiprocessing, os, sys, threading
import greenapi
url, token = os.environ["GREENAPI_URL"], os.environ["GREENAPI_TOKEN"]
ids = [int(one) for one in sys.argv[1:]]
client = greenapi.Client(url, token)
"""

# Python 3.12 and later warn when a process with threads forks, as these tests do.
FORKS = """
import warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded")
def in_child(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@not_on_windows
def test_fork_while_threads_call(standin: Standin) -> None:
    ids = standin.instances(460)
    source = (
        PRELUDE
        + FORKS
        + """
own, others = ids[:60], ids[60:]
def call(part):
    for one in part:
        client.delete_instance(one)
threads = [threading.Thread(target=call, args=(others[number::4],)) for number in range(4)]
for thread in threads: thread.start()
for a, b, c in zip(own[::3], own[1::3], own[2::3]):
    def work():
        assert client.delete_instance(a).ok
        assert greenapi.delete_instance(url, token, b).ok
        [result] = client.delete_instances([c])
        assert result.ok
    assert in_child(work) == 0
for thread in threads: thread.join()
"""
    )
    assert run(source, standin.environment(), *map(str, ids)) == (0, "", "")
    assert standin.deleted() == set(ids)


@not_on_windows
def test_async_after_fork(standin: Standin) -> None:
    ids = standin.instances(4)
    source = (
        PRELUDE
        + FORKS
        + """
client = greenapi.AsyncClient(url, token)
async def one(number):
    return await client.delete_instance(number)
async def many(numbers):
    return [result async for result in client.delete_instances(numbers)]
asyncio.run(one(ids[0]))
def work():
    assert asyncio.run(one(ids[1])).ok
    [result] = asyncio.run(many(ids[2:3]))
    assert result.ok
assert in_child(work) == 0
asyncio.run(one(ids[3]))
"""
    )
    assert run(source, standin.environment(), *map(str, ids)) == (0, "", "")
    assert standin.deleted() == set(ids)


@not_on_windows
def test_fork_inside_a_running_loop(standin: Standin) -> None:
    ids = standin.instances(3)
    standin.rule({"id": ids[0], "fault": {"hold": True}})
    source = (
        PRELUDE
        + FORKS
        + """
client = greenapi.AsyncClient(url, token)
def work():
    # In another thread, because the loop that was running is still this one's.
    results = []
    thread = threading.Thread(
        target=lambda: results.append(asyncio.run(client.delete_instance(ids[1]))))
    thread.start()
    thread.join()
    assert results[0].ok
async def main():
    call = asyncio.ensure_future(client.delete_instance(ids[0]))
    # A call that may have been cancelled looks first whether it was, which takes a turn.
    for _ in range(2):
        await asyncio.sleep(0)
    print("called", flush=True)
    sys.stdin.readline()
    assert in_child(work) == 0
    print("forked", flush=True)
    assert (await client.delete_instance(ids[2])).ok
    assert (await call).ok
asyncio.run(main())
"""
    )
    with program(source, standin.environment(), *map(str, ids), stdin=-1) as process:
        standin.wait(held=1)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "called\n"
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == "forked\n"
        standin.release()
        assert finish(process) == (0, "", "")
    assert standin.deleted() == set(ids)


@not_on_windows
def test_bulk_run_of_the_parent_is_refused_in_the_child(standin: Standin) -> None:
    ids = standin.instances(40)
    source = (
        PRELUDE
        + FORKS
        + """
client = greenapi.Client(url, token, max_in_flight=2)
results = client.delete_instances(ids)
next(results)
def work():
    try:
        list(results)
    except RuntimeError as error:
        assert "belong to the parent process" in str(error), error
    else:
        raise AssertionError("the child got the parent's results")
assert in_child(work) == 0
assert len(list(results)) == len(ids) - 1
"""
    )
    assert run(source, standin.environment(), *map(str, ids)) == (0, "", "")
    assert standin.deleted() == set(ids)


POOL = (
    PRELUDE
    + """
import warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded")

def delete(id_instance):
    return client.delete_instance(id_instance)

if __name__ == "__main__":
    context = multiprocessing.get_context(os.environ["METHOD"])
    # The parent's own engine is running when the workers begin.
    assert delete(ids.pop()).ok
    with context.Pool(4) as pool:
        results = pool.map(delete, ids)
        assert [one.id_instance for one in results] == ids
        assert all(one.ok for one in results)
        try:
            pool.apply(delete, (ids[0],))
        except greenapi.NotFound as error:
            assert (error.id_instance, error.code) == (ids[0], 404)
        else:
            raise AssertionError("deleted twice")
"""
)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("fork", marks=not_on_windows),
        "spawn",
        pytest.param("forkserver", marks=not_on_windows),
    ],
)
def test_multiprocessing(standin: Standin, tmp_path: Path, method: str) -> None:
    ids = standin.instances(60)
    # A file, because the spawned workers import it.
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    source = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    environment = standin.environment(METHOD=method)
    assert run(source, environment, *map(str, ids)) == (0, "", "")
    assert standin.deleted() == set(ids)


# --- the end of the interpreter ---

ENDINGS = {
    "return": ("", 0),
    "sys.exit": ("sys.exit(7)", 7),
    "os._exit": ("os._exit(7)", 7),
    "exception": ("raise SystemExit(7)", 7),
}

INSIDE = {
    "one call": "greenapi.delete_instance(url, token, ids[0])",
    "client": "client.delete_instance(ids[0])",
    "bulk": "list(client.delete_instances(ids))",
    "async": "asyncio.run(greenapi.AsyncClient(url, token).delete_instance(ids[0]))",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("call", INSIDE)
def test_end_while_a_daemon_thread_calls(standin: Standin, call: str, ending: str) -> None:
    [id_instance] = standin.instances(1)
    standin.hold()
    statement, expected = ENDINGS[ending]
    source = (
        PRELUDE
        + f"""
thread = threading.Thread(target=lambda: {INSIDE[call]}, daemon=True)
thread.start()
sys.stdin.readline()
{statement}
"""
    )
    with program(source, standin.environment(), str(id_instance), stdin=-1) as process:
        standin.wait(held=1)
        assert process.communicate("end\n", timeout=20) == ("", "")
        assert process.returncode == expected
    standin.wait(open=0)
    standin.release()
    assert standin.deleted() == set()


def test_end_while_many_daemon_threads_call(standin: Standin) -> None:
    ids = standin.instances(2000)
    source = (
        PRELUDE
        + """
def work(part):
    for one in part:
        try:
            client.delete_instance(one)
        except greenapi.NotFound:
            pass  # an earlier round deleted it
for number in range(8):
    threading.Thread(target=work, args=(ids[number::8],), daemon=True).start()
sys.stdin.readline()
"""
    )
    for _ in range(5):
        with program(source, standin.environment(), *map(str, ids), stdin=-1) as process:
            received = standin.stats()["received"]
            standin.wait(received=received + 20)
            assert process.communicate("end\n", timeout=20) == ("", "")
            assert process.returncode == 0


def test_clients_left_open_at_the_end(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    source = (
        PRELUDE
        + """
client.delete_instance(ids[0])
client.cycle = [client]
results = client.delete_instances(ids * 3)
next(results)
async_client = greenapi.AsyncClient(url, token)
"""
    )
    assert run(source, standin.environment(), str(id_instance)) == (0, "", "")


@not_on_windows
def test_no_descriptor_is_inherited_by_programs(standin: Standin) -> None:
    [id_instance] = standin.instances(1)
    source = (
        PRELUDE
        + """
import subprocess
client.delete_instance(ids[0])
listing = "import os; print(*sorted(os.listdir('/proc/self/fd'), key=int))"
print(subprocess.run([sys.executable, "-c", listing], close_fds=False, text=True,
                     stdout=subprocess.PIPE).stdout)
"""
    )
    code, out, err = run(source, standin.environment(), str(id_instance))
    assert (code, err) == (0, "")
    # The standard streams, and the one that lists.
    assert out.split() == ["0", "1", "2", "3"]


# --- loading ---


def load(environment: dict[str, str]) -> tuple[int, str]:
    code, _, err = run("import greenapi", environment)
    return code, err


def test_library_that_is_nowhere(standin: Standin, tmp_path: Path) -> None:
    code, err = load(standin.environment(GREENAPI_LIBRARY="/nowhere/libgreenapi.so"))
    assert code == 1
    message = err.strip().splitlines()[-1]
    assert message.startswith("ImportError: greenapi's shared library was not found.")
    for place in ("greenapi", "GREENAPI_LIBRARY", "/nowhere/libgreenapi.so"):
        assert place in message
    # A library may be installed where the system's loader looks. The loader takes the first file
    # that it finds, whether the file can be loaded or not.
    for name in ("libgreenapi.so", "libgreenapi.so.0", "libgreenapi.dylib"):
        (tmp_path / name).touch()
    nowhere = {"LD_LIBRARY_PATH": str(tmp_path), "DYLD_LIBRARY_PATH": str(tmp_path)}
    code, err = load(standin.environment(GREENAPI_LIBRARY="", **nowhere))
    assert code == 1
    message = err.strip().splitlines()[-1]
    assert "GREENAPI_LIBRARY: not set" in message
    assert "by the system's loader" in message


def test_library_of_somebody_else(standin: Standin) -> None:
    libraries = {"linux": "libc.so.6", "win32": "kernel32.dll"}
    library = libraries.get(sys.platform, "libSystem.dylib")
    code, err = load(standin.environment(GREENAPI_LIBRARY=library))
    assert code == 1
    assert "is not greenapi's library" in err


@not_on_windows
def test_library_of_another_version(standin: Standin, tmp_path: Path) -> None:
    source = tmp_path / "other.c"
    source.write_text('const char *greenapi_version(void) { return "99.0.0"; }\n')
    library = tmp_path / "libother.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    code, err = load(standin.environment(GREENAPI_LIBRARY=str(library)))
    assert code == 1
    message = err.strip().splitlines()[-1]
    assert f"the Python package greenapi is version {greenapi.__version__}" in message
    assert "is version 99.0.0: install the same version of both" in message
