"""Checkpoints: whole or absent, whatever dies, and never believed when they are damaged."""

import math
import multiprocessing
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipeline.errors import TrainingError
from pipeline.training.checkpoint import KEPT, Checkpoints
from tests.drawing import ROOT

KEY = {"data": "a", "params": {"lr": 0.1}}

EVERY_DTYPE = {
    "fp64": torch.randn(3, dtype=torch.float64),
    "fp32": torch.randn(2, 3),
    "fp16": torch.randn(5).half(),
    "bf16": torch.randn(3, 5).bfloat16(),
    "int64": torch.tensor(2**62 + 1),
    "int32": torch.tensor([-5], dtype=torch.int32),
    "int16": torch.tensor([-5], dtype=torch.int16),
    "int8": torch.tensor([-5], dtype=torch.int8),
    "uint8": torch.get_rng_state(),
    "bool": torch.tensor([True, False]),
    "nan": torch.tensor([math.nan, math.inf, -0.0]),
    "empty": torch.empty(0, 4),
    "one byte": torch.tensor(7, dtype=torch.uint8),
}


def saved(root: Path, *steps: int) -> Checkpoints:
    found = Checkpoints(root, KEY)
    for step in steps:
        found.save(step, {"weight": torch.full((4, 3), float(step))}, {"epoch": step})
    return found


def files(checkpoints: Checkpoints) -> list[Path]:
    return sorted(checkpoints.folder.glob("*.safetensors"))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    kind = a.dtype == b.dtype and a.shape == b.shape
    return kind and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def test_every_dtype_comes_back_bit_for_bit(tmp_path: Path) -> None:
    Checkpoints(tmp_path, KEY).save(3, EVERY_DTYPE, {})
    found = Checkpoints(tmp_path, KEY).newest()
    assert found.step == 3
    assert set(found.tensors) == set(EVERY_DTYPE)
    for name, tensor in EVERY_DTYPE.items():
        assert same_bits(found.tensors[name], tensor), name


def test_safetensors_itself_reads_the_file(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, KEY)
    checkpoints.save(1, EVERY_DTYPE, {})
    theirs = safetensors.torch.load_file(files(checkpoints)[0])
    assert all(same_bits(theirs[name], tensor) for name, tensor in EVERY_DTYPE.items())


def test_the_state_comes_back_infinity_and_nan_included(tmp_path: Path) -> None:
    state = {"epoch": 2, "best": -math.inf, "history": [{"loss": 0.1 + 0.2}], "none": None}
    Checkpoints(tmp_path, KEY).save(1, {}, state | {"lost": math.nan})
    found = Checkpoints(tmp_path, KEY).newest().state
    assert math.isnan(found.pop("lost"))
    assert found == state


def test_tied_weights_are_written_once_and_views_as_they_look(tmp_path: Path) -> None:
    whole = torch.randn(300, 400)
    tensors = {
        "weight": whole,
        "tied": whole.view(300, 400),
        "turned": whole.T,
        "part": whole[5:9, ::2],
        "wide": torch.tensor([1.0, 2.0])[:, None].expand(2, 3),
        "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    checkpoints = Checkpoints(tmp_path, KEY)
    checkpoints.save(1, tensors, {})
    found = checkpoints.newest().tensors
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert files(checkpoints)[0].stat().st_size < 2.1 * whole.nbytes


def test_weights_that_train_are_saved_as_they_are(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(3))
    Checkpoints(tmp_path, KEY).save(1, {"weight": weight}, {})
    assert same_bits(Checkpoints(tmp_path, KEY).newest().tensors["weight"], weight.detach())


def test_the_newest_two_are_kept_and_the_newest_counts(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 9, 10, 11, 100)
    assert [int(file.name.split("-")[1]) for file in files(checkpoints)] == [11, 100]
    assert len(files(checkpoints)) == KEPT
    assert checkpoints.newest().step == 100


def test_nothing_saved_is_nothing_found_and_nothing_made(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", KEY).newest() is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("change", [{"data": "b"}, {"params": {"lr": 0.2}}, {"more": None}])
def test_another_key_knows_nothing(tmp_path: Path, change: dict[str, object]) -> None:
    saved(tmp_path, 1)
    assert Checkpoints(tmp_path, {"params": {"lr": 0.1}, "data": "a"}).newest().step == 1
    assert Checkpoints(tmp_path, KEY | change).newest() is None


def test_a_key_that_has_no_fixed_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Checkpoints(tmp_path, {"path": tmp_path})


def damage(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how == "torn":
        content = content[: len(content) // 2]
    elif how == "grown":
        content += b"\0"
    elif how == "empty":
        content = b""
    else:
        content[{"header": 3, "state": 40, "last": -1}[how]] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("how", ["torn", "grown", "empty", "header", "state", "last"])
def test_a_damaged_one_is_removed_and_the_one_before_counts(tmp_path: Path, how: str) -> None:
    damage(files(saved(tmp_path, 1, 2))[1], how)
    again = Checkpoints(tmp_path, KEY)
    found = again.newest()
    assert (found.step, found.state, again.damaged) == (1, {"epoch": 1}, 1)
    assert torch.equal(found.tensors["weight"], torch.full((4, 3), 1.0))
    assert len(files(again)) == 1


def test_where_all_are_damaged_none_is_found(tmp_path: Path) -> None:
    for file in files(saved(tmp_path, 1, 2)):
        damage(file, "torn")
    again = Checkpoints(tmp_path, KEY)
    assert again.newest() is None
    assert again.damaged == 2
    again.save(1, {}, {})
    assert again.newest().step == 1


def test_what_a_killed_writer_left_is_not_read_and_goes_with_the_next(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1)
    part = checkpoints.folder / "step-000000002.part"
    part.write_bytes(files(checkpoints)[0].read_bytes()[:50])
    assert checkpoints.newest().step == 1
    checkpoints.save(3, {}, {})
    assert not part.exists()


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    before = files(checkpoints)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"checkpoint of 8\.0 MB in .*make room there"):
            checkpoints.save(3, {"weight": torch.zeros(2_000_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(checkpoints) == before
    assert not list(checkpoints.folder.glob("*.part"))
    assert checkpoints.newest().step == 2


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="see that the folder can be read and written"):
        Checkpoints(tmp_path / "file", KEY).save(1, {}, {})


def test_done_leaves_none(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    other = Checkpoints(tmp_path, {"data": "b"})
    other.save(5, {}, {})
    checkpoints.clear()
    checkpoints.clear()
    assert checkpoints.newest() is None
    assert other.newest().step == 5


def save_and_read(root: Path, start: int) -> None:
    """One of two processes with the same key; each reads sound checkpoints alone, all the time."""
    checkpoints = Checkpoints(root, KEY)
    for step in range(start, start + 40, 2):
        checkpoints.save(step, {"weight": torch.full((50_000,), float(step))}, {"step": step})
        found = checkpoints.newest()
        assert found.step == found.state["step"] >= step
        assert (found.tensors["weight"] == found.step).all()
    assert checkpoints.damaged == 0


def test_two_processes_of_one_key_leave_each_other_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=save_and_read, args=(tmp_path, start)) for start in (1, 2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert Checkpoints(tmp_path, KEY).newest().step == 40


KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path
    import torch
    from pipeline.training import checkpoint
    from pipeline.training.checkpoint import Checkpoints

    torch.set_num_threads(1)
    root = Path(sys.argv[1])

    def save(step, size):
        tensors = {"a": torch.full((size,), float(step)), "b": torch.tensor(step)}
        Checkpoints(root, {}).save(step, tensors, {"step": step})

    def newest():
        found = Checkpoints(root, {}).newest()
        assert found.state == {"step": found.step}
        assert (found.tensors["a"] == found.step).all() and found.tensors["b"] == found.step
        return found.step

    def killed(work, after):
        child = os.fork()
        if not child:
            work()
            os._exit(0)
        if after:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        return os.WIFSIGNALED(status)

    # Killed between any two lines of the code that saves.
    save(1, 100)
    save(2, 100)
    lines = 0
    while True:
        step, lines = newest() + 1, lines + 1

        def die_at(line, left=[lines]):
            def trace(frame, event, _):
                if frame.f_code.co_filename != checkpoint.__file__:
                    return None
                if event == "line":
                    left[0] -= 1
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                return trace
            return trace

        def work():
            sys.settrace(die_at(lines))
            save(step, 100)

        if not killed(work, 0):
            break
        assert newest() in (step - 1, step), (step, lines)
    assert lines > 60, lines
    assert newest() == step

    # Killed at random moments.
    told, tell = os.pipe()
    os.set_blocking(told, False)

    def save_on():
        for step in range(newest() + 1, 10**6):
            save(step, 200_000)
            os.write(tell, step.to_bytes(8, "little"))

    random.seed(0)
    kills = 20
    for _ in range(kills):
        assert killed(save_on, random.uniform(0.01, 0.1))
        try:
            said = os.read(told, 10**6)
            assert newest() >= int.from_bytes(said[-8:], "little")
        except BlockingIOError:
            newest()
    save(10**6, 100)
    names = sorted(f.suffix for f in Checkpoints(root, {}).folder.iterdir())
    assert names == [".json", ".safetensors", ".safetensors"], names
    print(lines, kills)
"""


def test_killed_at_any_line_and_any_moment_the_last_one_is_sound(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), str(tmp_path / "checkpoints")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines, kills = map(int, done.stdout.split())
    assert lines > 60
    assert kills == 20
