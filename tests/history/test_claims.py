"""Whether the maker of a claim is gone: real processes, which are really killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import TrackingError
from pipeline.history import claims
from pipeline.history import registry as registry_of
from pipeline.history.claims import Claim
from pipeline.history.registry import LOCK, Registry
from pipeline.tracking_store import Connection
from tests.history.test_registry import store

__all__ = ["store"]  # the fixture of the other module

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="needs Linux")

MAKES = "from pipeline.history import claims; print(claims.made(), flush=True); input()"
HOLDS = """
import sys, time, warnings
warnings.simplefilter("ignore")
from mlflow import MlflowClient
from pipeline.history.registry import Registry
from pipeline.tracking_store import Connection
client = MlflowClient(sys.argv[1], sys.argv[1])
with Registry(Connection(client, "0", sys.argv[1], spooled=False), sys.argv[2]).alone():
    print("alone", flush=True)
    input()
"""


def begun(code: str, *arguments: str, before: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*before, sys.executable, "-c", code, *arguments],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def claimed() -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A process, and its claim."""
    with begun(MAKES) as process:
        yield process, line(process)
        process.kill()


def test_a_claim_is_over_once_its_process_is(claimed: tuple["subprocess.Popen[str]", str]) -> None:
    process, text = claimed
    claim = claims.read(text)
    assert not claim.is_over()
    assert str(claim).endswith(f", process {process.pid} on {claim.host}")
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # nobody has asked how it ended yet
    assert claim.is_over()
    process.wait()
    assert claim.is_over()


def test_another_process_of_the_same_number_is_not_the_maker(
    claimed: tuple["subprocess.Popen[str]", str],
) -> None:
    _, text = claimed
    claim = claims.read(text)
    later = Claim(claim.since, claim.host, claim.machine, claim.pid, f"{int(claim.start) - 1}")
    assert later.is_over()


def test_of_another_machine_time_alone_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    with begun(MAKES) as process:
        text = line(process)
        process.kill()
    here = claims.this_machine()
    assert here
    assert claims.read(text).is_over()
    for other in (here.replace("pid-[", "pid-[1"), here.replace(" ", " 0", 1), ""):
        claim = claims.read(text.replace(here, other))
        assert not claim.is_over()
        assert "; should it have died, until " in str(claim)
        monkeypatch.setattr(claims.time, "time", lambda: time.monotonic() + 1e10)
        assert claim.is_over()
        monkeypatch.undo()
    monkeypatch.setattr(claims, "this_machine", lambda: "")
    assert not claims.read(text).is_over()


@pytest.mark.parametrize("proc", ["--mount-proc", "--fork"])
def test_a_container_of_the_same_name_is_another_machine(proc: str) -> None:
    """Also one that shows the processes of its host."""
    unshare = ("unshare", "--user", "--map-root-user", "--pid", "--fork", proc)
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    with begun(MAKES, before=unshare) as process:
        text = line(process)
        process.communicate("\n")
    claim = claims.read(text)
    assert (claim.pid, claim.host) == (1, claims.read(claims.made()).host)
    assert claim.machine != claims.this_machine()
    assert not claim.is_over()


def test_a_claim_of_the_earlier_form_is_read() -> None:
    now = time.time()
    assert not claims.read(f"{'a' * 32}:{now:.0f}").is_over()
    assert claims.read(f"{'a' * 32}:{now - 601:.0f}").is_over()
    assert str(claims.read(f"{'a' * 32}:{now:.0f}")).startswith("since ")
    assert float(claims.made().rpartition(":")[2]) == pytest.approx(now, abs=2)  # and it reads ours


@pytest.mark.parametrize("text", ["", "x", "a:b", "a:-1", "a:" + "9" * 400, "a:h:m:0:0:nan"])
def test_what_is_no_claim_holds_nobody(text: str) -> None:
    assert claims.read(text).is_over()


def test_a_promotion_that_was_killed_blocks_no_other(
    store: Connection, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = request.node.name
    store.client.create_registered_model(name)
    registry = Registry(store, name)
    monkeypatch.setattr(registry_of, "SETTLE_S", 0.0)
    with begun(HOLDS, store.uri, name) as process:
        assert line(process) == "alone"
        with (
            pytest.raises(
                TrackingError,
                match=rf"another promotion of '{name}' is under way \(since .*, process "
                rf"{process.pid} on [\w.-]+\): look",
            ),
            registry.alone(),
        ):
            pass
        process.kill()
        process.wait()
    assert store.client.get_registered_model(name).tags[LOCK]
    went = []
    with registry.alone():
        went.append("on")
    assert went == ["on"]
    assert LOCK not in store.client.get_registered_model(name).tags
