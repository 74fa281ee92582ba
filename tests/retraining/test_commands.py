"""What a retraining makes of what other programs say, and of being stopped."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.retraining import commands
from pipeline.retraining.commands import CommandError, Said, required, without_advice

FAILED = Said(
    255,
    (
        "Running stage 'clean':",
        "> python -m stages.clean",
        "Running stage 'validate':",
        "> python -m stages.validate",
        "error: 33.4 % of the rows are rejected (validate.table.rejected.stop: 0.2). The first:",
        "         row 1: image_truncated",
        "ERROR: failed to reproduce 'validate': failed to run: python -m stages.validate, exited "
        "with 1",
    ),
)


def test_a_stage_s_own_words_come_before_dvc_s() -> None:
    assert FAILED.stage == "validate"
    assert FAILED.problem == (
        "33.4 % of the rows are rejected (validate.table.rejected.stop: 0.2). The first: row 1: "
        "image_truncated"
    )
    assert FAILED.wrong == [
        "33.4 % of the rows are rejected (validate.table.rejected.stop: 0.2). The first:",
        "  row 1: image_truncated",
    ]
    assert Said(255, ("ERROR: failed to push: no such bucket", "hint")).problem == (
        "failed to push: no such bucket"
    )
    assert Said(1, ("a last line", "")).problem == "a last line"
    assert Said(1, ()).problem == "it said nothing"


def test_a_command_that_failed_names_what_it_was_for_and_what_it_left() -> None:
    with pytest.raises(DataError, match="the pipeline failed in the stage validate: 33") as caught:
        required(FAILED, "the pipeline")
    assert caught.value.left == Path(".cliptune/last_failed/validate")
    assert isinstance(caught.value, CommandError)
    assert caught.value.lines == ["the pipeline failed in the stage validate:", *FAILED.wrong]
    assert required(Said(0, ("fine",)), "it").code == 0


@pytest.mark.parametrize(
    ("last", "code", "passed"),
    [
        ("Running stage 'clean':", 0, True),
        ("Running stage 'clean':", 1, True),  # validate came before it
        ("a line", 1, False),
        ("a line", 0, True),
    ],
)
def test_whether_a_stage_is_current_is_what_dvc_said(last: str, code: int, passed: bool) -> None:
    output = "'data/mine.dvc' didn't change, skipping\nRunning stage 'validate':\n"
    said = commands._shown(
        [sys.executable, "-c", f"print({output + last!r}); raise SystemExit({code})"], Path()
    )
    assert said.passed("validate") == passed
    assert not said.passed("data/mine.dvc")
    skipped = ["Stage 'validate' didn't change, skipping", "Stage 'clean' is cached - skipping run"]
    code_ = f"print({chr(10).join(skipped)!r})"
    assert commands._shown([sys.executable, "-c", code_], Path()).stages == ("validate", "clean")


PASSING = """
import sys
from pathlib import Path
from pipeline.retraining import commands
said = commands._shown([sys.executable, "-c", {child!r}], Path("."))
print("ended", said.code)
"""
CHILD = """
import signal, sys, time
def end(*_):
    print("a checkpoint", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
print("begun", flush=True)
time.sleep(60)
"""


def test_sigterm_reaches_the_command_which_ends_as_it_likes() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PASSING.format(child=CHILD)],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert output == "a checkpoint\n"  # and nothing after it
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - began < 20


def test_credentials_are_not_shown() -> None:
    code = "print('ERROR: https://me:hunter2@host/x refused')"
    done = subprocess.run(
        [sys.executable, "-c",
         "import sys\nfrom pathlib import Path\nfrom pipeline.retraining import commands\n"
         f"said = commands._shown([sys.executable, '-c', {code!r}], Path('.'))\n"
         "sys.stderr.write(said.problem)"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "hunter2" not in done.stdout + done.stderr
    assert "host/x refused" in done.stderr


def test_what_a_retraining_does_itself_nobody_is_asked_to_do() -> None:
    kept = ["Updating lock file 'dvc.lock'\n", "\n", "\tgit add mine\n", "Use `dvc push`\n"]
    advice = [
        "To track the changes with git, run:\n", "\n", "\tgit add dvc.lock data/.gitignore\n",
        "To enable auto staging, run:\n", "\tdvc config core.autostage true\n",
        "Use `dvc push` to send your updates to remote storage.\n",
    ]  # fmt: skip
    assert list(without_advice([*kept, *advice, *kept])) == [*kept, *kept]
