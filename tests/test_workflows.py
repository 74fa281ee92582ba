"""The workflows, offline: zizmor, schemas, and `problems` for what both miss.

Each check is shown to fail on a mutated copy. What the workflows run outside of make (the report of
a failure, git's credential, a text as an output) runs here, with a `gh` that writes down its calls.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline import paths

ROOT = Path(__file__).parents[1]
FILES = {name: ROOT / f".github/workflows/{name}.yml" for name in ("ci", "retrain")}
PAGE = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent

CONTEXTS = {"github", "inputs", "needs", "runner", "secrets", "steps", "vars"}
JOB_CONTEXTS = {"github", "inputs", "needs", "vars"}
"""What GitHub knows before a runner has the job: for its `if` and `runs-on`."""

OUTPUTS = {"actions/cache/restore": {"cache-hit", "cache-primary-key", "cache-matched-key"}}
HOSTED = "runner.environment == 'github-hosted'"
CACHED = {str(path) for path in (paths.HUB, paths.IMAGE_FACTS, paths.EMBEDDED, paths.CHECKPOINTS)}
CRON = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def load(text: str) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(text)


def texts(node: Any) -> Iterator[str]:
    """Every string below `node`."""
    if isinstance(node, dict):
        for value in node.values():
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    elif isinstance(node, str):
        yield node


def expressions(node: Any) -> Iterator[str]:
    """Every expression below `node`, literals taken out; an `if` is one without its marks."""
    for text in texts(node):
        for found in re.findall(r"\$\{\{(.*?)\}\}", text, re.DOTALL):
            yield re.sub(r"'[^']*'", "''", found)
    if isinstance(node, dict):
        if "if" in node:
            yield re.sub(r"'[^']*'", "''", str(node["if"]))
        for value in node.values():
            yield from (text for text in expressions(value) if isinstance(value, dict | list))
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def references(node: Any, context: str) -> set[tuple[str, ...]]:
    """What follows `context.` in the expressions below `node`, part by part."""
    pattern = rf"(?<![\w.-]){context}((?:\.[\w-]+)+)"
    return {
        tuple(found.strip(".").split("."))
        for text in expressions(node)
        for found in re.findall(pattern, text)
    }


def contexts(node: Any) -> set[str]:
    return {
        name for text in expressions(node) for name in re.findall(r"(?<![\w.-])([a-z_]+)\.", text)
    }


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def bad_cron(cron: str) -> str | None:
    fields = cron.split()
    if len(fields) != len(CRON):
        return f"cron {cron!r} has {len(fields)} fields, not five"
    for field, (low, high) in zip(fields, CRON, strict=True):
        if not re.fullmatch(r"(\*|\d+(-\d+)?)(/\d+)?(,\d+(-\d+)?(/\d+)?)*", field):
            return f"cron {cron!r}: {field!r} is no field"
        numbers = [int(number) for number in re.findall(r"(?<![/\d])\d+", field)]
        if any(not low <= number <= high for number in numbers):
            return f"cron {cron!r}: {field!r} is not within {low} to {high}"
    if not re.fullmatch(r"[1-9]\d?", fields[0]):
        return f"cron {cron!r} starts at minute {fields[0]}, when many do: take another"
    return None


def bad_needs(jobs: dict[str, Any]) -> Iterator[str]:
    wanted = {
        name: [job["needs"]] if isinstance(job.get("needs"), str) else job.get("needs", [])
        for name, job in jobs.items()
    }
    for name, needs in wanted.items():
        yield from (f"job {name} needs {other}, which is no job" for other in needs
                    if other not in jobs)  # fmt: skip
        for context, *rest in (("needs", *parts) for parts in references(jobs[name], "needs")):
            other, kind, *output = rest
            if other not in needs:
                yield f"job {name} reads {context}.{other}, which it does not need"
            elif kind == "outputs" and output[0] not in jobs.get(other, {}).get("outputs", {}):
                yield f"job {name} reads the output {output[0]} that {other} does not have"
            elif kind not in ("outputs", "result"):
                yield f"job {name} reads needs.{other}.{kind}"
    left = dict(wanted)
    while ready := [name for name, needs in left.items() if not set(needs) & set(left)]:
        left = {name: needs for name, needs in left.items() if name not in ready}
    if left:
        yield f"jobs wait for each other: {', '.join(left)}"


def bad_steps(name: str, job: dict[str, Any]) -> Iterator[str]:
    """References to steps that do not come before, or to outputs that they do not have."""
    known: dict[str, Any] = {}
    for step in [*job["steps"], job.get("outputs", {})]:
        for parts in references(step, "steps"):
            other = known.get(parts[0])
            if other is None:
                yield f"job {name} reads steps.{parts[0]}, which is no step before"
            elif parts[1] == "outputs":
                has = OUTPUTS.get(str(other.get("uses", "")).partition("@")[0])
                if has is None:
                    has = set(re.findall(r"[\w-]+", other.get("run", "")))
                if parts[2] not in has:
                    yield f"job {name} reads the output {parts[2]} that {parts[0]} does not have"
            elif parts[1] not in ("outcome", "conclusion"):
                yield f"job {name} reads steps.{'.'.join(parts)}"
        if "id" in step:
            known[step["id"]] = step


def bad_run(step: dict[str, Any], runner: str) -> Iterator[str]:
    run = step["run"]
    if "${{" in run:
        yield f"an expression inside of a run: {run!r}"
    if len(run.strip().splitlines()) > 5:
        yield f"a run of more than five lines: {run!r}"
    for target in re.findall(r"\bmake ([\w-]+)", run):
        if target not in targets():
            yield f"make {target} is no target"
    for file in re.findall(r"(?<![\w./~-])\.(?:ci|github)/\S+", run):
        if not os.access(ROOT / file, os.X_OK):
            yield f"{file} is no program here"
    if "sudo" in run and not runner.startswith("ubuntu-") and HOSTED not in step.get("if", ""):
        yield f"sudo on a machine that may be somebody's: {run!r}"


def bad_uses(step: dict[str, Any]) -> Iterator[str]:
    action, inputs = step["uses"].partition("@")[0], step.get("with", {})
    listed = inputs.get("path", "").split()
    if action.startswith("actions/cache"):
        for path in listed:
            if path not in CACHED | {"~/.cache/uv"}:
                yield f"cached, and no place of pipeline.paths: {path}"
    if action == "actions/upload-artifact":
        for path in map(Path, listed):
            if path != paths.REPORT.parent and paths.WORK not in path.parents:
                yield f"uploaded, and neither the report nor in {paths.WORK}: {path}"
            if str(path).startswith(".") and not inputs.get("include-hidden-files"):
                yield f"hidden, so not uploaded: {path}"


def bad_caches(job: dict[str, Any]) -> Iterator[str]:
    """A cache is found again only under the same list of paths."""
    kept = {step.get("id"): step["with"]["path"] for step in job["steps"]
            if "cache/restore@" in step.get("uses", "")}  # fmt: skip
    for step in job["steps"]:
        if "cache/save@" in step.get("uses", ""):
            for parts in references(step["with"]["key"], "steps"):
                if kept.get(parts[0]) != step["with"]["path"]:
                    yield f"saves other paths than {parts[0]} restores"


def bad_pins(text: str) -> Iterator[str]:
    for line in re.findall(r"^\s*(?:- )?uses:.*$", text, re.MULTILINE):
        if not re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line):
            yield f"no SHA with its version: {line.strip()}"
    pins = set(re.findall(r"uses: ([\w-]+/[\w-]+)\S*@([0-9a-f]{40}) # (\S+)", text))
    if len({action for action, _, _ in pins}) != len(pins):
        yield "an action in two versions"


def bad_starts(flow: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the events and their inputs."""
    on = flow["on"]
    yield from (f"on: {event}" for event in ("pull_request_target", "workflow_run") if event in on)
    yield from filter(None, (bad_cron(entry["cron"]) for entry in on.get("schedule", [])))
    inputs = (on.get("workflow_dispatch") or {}).get("inputs", {})
    used = {parts[0] for parts in references(flow, "inputs")}
    yield from (f"inputs.{name} is no input" for name in sorted(used - set(inputs)))
    yield from (f"the input {name} is not used" for name in sorted(set(inputs) - used))
    for name, field in inputs.items():
        if field["type"] == "choice" and field["default"] not in field["options"]:
            yield f"the default of {name} is none of its options"


def bad_job(name: str, job: dict[str, Any]) -> Iterator[str]:
    if "timeout-minutes" not in job or "permissions" not in job:
        yield f"job {name} lacks a limit of time or permissions"
    early = contexts({"if": str(job.get("if", "")), "on": job["runs-on"]}) - JOB_CONTEXTS
    yield from (f"job {name} asks for {context} too early" for context in early)
    yield from bad_steps(name, job)
    yield from bad_caches(job)
    for step in job["steps"]:
        if "secrets" in contexts({"if": step.get("if", "")}):
            yield "GitHub knows no secrets in an if"
        yield from bad_run(step, job["runs-on"]) if "run" in step else bad_uses(step)
    for file in re.findall(r"hashFiles\('([^']+)'\)", str(job).replace("\\", "")):
        if not (ROOT / file).is_file():
            yield f"hashFiles of {file}, which is no file"


def problems(text: str) -> list[str]:
    """What is wrong with a workflow that neither a schema nor zizmor sees."""
    flow = load(text)
    found = [*bad_pins(text), *bad_starts(flow), *bad_needs(flow["jobs"])]
    found += [f"no context: {name}" for name in sorted(contexts(flow) - CONTEXTS)]
    if flow.get("permissions") != {}:
        found.append("the workflow as a whole has permissions")
    for name, job in flow["jobs"].items():
        found += bad_job(name, job)
    return found


def run(*command: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **more
    )


def zizmor(folder: Path) -> subprocess.CompletedProcess[str]:
    options = ("--offline", "--no-progress", "--persona=auditor", "--no-ignores")
    return run(BIN / "zizmor", *options, "--strict-collection", "--collect=all", folder)


def schema(kind: str, *files: Path) -> subprocess.CompletedProcess[str]:
    return run(BIN / "check-jsonschema", "--builtin-schema", f"vendor.{kind}", *files)


def test_zizmor_finds_nothing_and_nothing_is_ignored() -> None:
    done = zizmor(ROOT / ".github")
    assert done.returncode == 0, done.stdout
    assert "completed" in done.stderr
    assert done.stderr.count("completed") == 3  # two workflows and dependabot.yml


@pytest.mark.parametrize(
    ("name", "old", "new", "rule"),
    [
        ("ci", "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7", "unpinned-uses"),
        ("ci", "  pull_request:\n", "  pull_request_target:\n", "dangerous-triggers"),
        ("ci", "run: make check", "run: echo ${{ github.head_ref }}", "template-injection"),
        ("ci", "persist-credentials: false", "persist-credentials: true", "artipacked"),
        ("ci", "permissions: {}", "permissions: write-all", "excessive-permissions"),
        ("retrain", "    environment: retrain # ", "    # ", "secrets-outside-env"),
    ],
)
def test_zizmor_sees_a_mutated_workflow(
    tmp_path: Path, name: str, old: str, new: str, rule: str
) -> None:
    folder = tmp_path / ".github/workflows"
    folder.mkdir(parents=True)
    (folder / "a.yml").write_text(mutated(name, old, new))
    done = zizmor(tmp_path)
    assert done.returncode != 0
    assert f"[{rule}]" in done.stdout


def mutated(name: str, old: str, new: str) -> str:
    text = FILES[name].read_text(encoding="utf-8")
    assert old in text
    return text.replace(old, new, 1)


def test_the_schemas_hold() -> None:
    done = schema("github-workflows", *FILES.values())
    assert done.returncode == 0, done.stdout
    done = schema("dependabot", ROOT / ".github/dependabot.yml")
    assert done.returncode == 0, done.stdout


def test_the_schema_sees_a_mistyped_key(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(mutated("retrain", "timeout-minutes", "timeout-minute"))
    assert schema("github-workflows", tmp_path / "a.yml").returncode == 1


@pytest.mark.parametrize("name", FILES)
def test_no_problems(name: str) -> None:
    assert problems(FILES[name].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("retrain", "23 3 * * 1", "0 3 * * 1", "starts at minute 0"),
        ("retrain", "23 3 * * 1", "*/5 * * * *", "starts at minute"),
        ("retrain", "23 3 * * 1", "23 3 * *", "has 4 fields"),
        ("retrain", "23 3 * * 1", "23 24 * * 1", "not within 0 to 23"),
        ("retrain", "23 3 * * 1", "23 3 * * monday", "is no field"),
        ("retrain", "needs: retrain", "needs: train", "which is no job"),
        ("retrain", "    needs: retrain\n", "", "which it does not need"),
        ("retrain", "    name: Retrain\n", "    needs: report\n", "wait for each other"),
        ("retrain", "needs.retrain.outputs.why", "needs.retrain.outputs.reason", "does not have"),
        ("retrain", "needs.retrain.result", "needs.retrain.outcome", "needs.retrain.outcome"),
        ("retrain", "steps.why.outputs.text", "steps.why.outputs.body", "output body"),
        ("retrain", "steps.why.outputs", "steps.because.outputs", "steps.because"),
        ("retrain", "id: retrain", "id: train", "steps.retrain, which is no step before"),
        ("retrain", "steps.work.outputs.cache-primary-key", "steps.work.outputs.key", "output key"),
        ("retrain", "inputs.dry_run", "inputs.dry", "inputs.dry is no input"),
        ("retrain", "inputs.dry_run", "false", "input dry_run is not used"),
        ("retrain", "default: pull-request", "default: push", "none of its options"),
        ("retrain", "vars.RETRAIN == 'on'", "var.RETRAIN == 'on'", "no context: var"),
        ("retrain", "vars.RETRAIN == 'on'", "runner.os == 'Linux'", "runner too early"),
        ("retrain", "if: always() && steps.work", "if: secrets.A && steps.work", "no secrets"),
        ("retrain", "run: make setup", "run: make set-up", "make set-up is no target"),
        ("retrain", "run: .ci/output", "run: .ci/outputs", ".ci/outputs is no program"),
        ("retrain", f"        if: {HOSTED}\n        run: sudo", "        run: sudo", "sudo on"),
        ("retrain", "hashFiles('requirements.lock')", "hashFiles('uv.lock')", "uv.lock"),
        ("retrain", "            .cliptune/embeddings\n", "", "other paths than work"),
        ("retrain", ".cliptune/images.sqlite", ".cliptune/facts", "no place of pipeline.paths"),
        ("retrain", "            reports\n", "            models\n", "neither the report"),
        ("retrain", "          include-hidden-files: true # .cliptune is one\n", "", "hidden"),
        ("retrain", " # v7.0.1", "", "no SHA with its version"),
        ("retrain", "@3d3c42e5aac5ba805825da76410c181273ba90b1", "@3d3c42e", "no SHA"),
        ("retrain", "permissions: {}", "permissions: read-all", "has permissions"),
        ("retrain", "    timeout-minutes: 5\n", "", "lacks a limit"),
        ("ci", "  pull_request:", "  pull_request_target:", "on: pull_request_target"),
        ("ci", "run: make check", "run: make check ${{ github.ref }}", "an expression inside"),
        ("ci", "run: make check", "run: |\n" + "          true\n" * 6, "more than five lines"),
        ("ci", "restore@55cc8345863c7cc4", "restore@65cc8345863c7cc4", "in two versions"),
    ],
)
def test_a_mutated_workflow_has_a_problem(name: str, old: str, new: str, problem: str) -> None:
    found = problems(mutated(name, old, new))
    assert any(problem in line for line in found), found


def test_pull_requests_see_no_secrets_and_write_nothing() -> None:
    text = FILES["ci"].read_text(encoding="utf-8")
    jobs = load(text)["jobs"].values()
    assert "secrets" not in text.replace("without secrets", "")
    assert [job["permissions"] for job in jobs] == [{"contents": "read"}]
    saved = [step["if"] for job in jobs for step in job["steps"]
             if "cache/save@" in step.get("uses", "")]  # fmt: skip
    assert saved
    assert all("github.event_name == 'push'" in condition for condition in saved)


def test_ci_runs_what_ci_run_runs() -> None:
    steps = [step["run"] for job in load(FILES["ci"].read_text())["jobs"].values()
             for step in job["steps"] if step.get("run", "").startswith("make")]  # fmt: skip
    assert steps == re.findall(r"^time (make .*)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)


def retraining() -> tuple[dict[str, Any], dict[str, Any]]:
    """The job that retrains, and its steps by name or run."""
    job = load(FILES["retrain"].read_text(encoding="utf-8"))["jobs"]["retrain"]
    return job, {step.get("name") or step.get("run", step.get("uses")): step
                 for step in job["steps"]}  # fmt: skip


def test_credentials_are_in_the_one_step_that_needs_them() -> None:
    job, steps = retraining()
    for name, step in steps.items():
        secret = {"secrets", "github.token"} & (contexts(step) | set(str(step).split()))
        assert bool(secret) == (name == "exec make retrain"), name
    assert steps["exec make retrain"]["env"]["CLIPTUNE_ON_UNREACHABLE"] == "fail"
    assert "env" not in job


def test_git_gets_the_token_from_the_environment_and_no_other_helper_is_asked(
    tmp_path: Path,
) -> None:
    env = retraining()[1]["exec make retrain"]["env"]
    git = {key: str(value).replace("${{ github.server_url }}", "https://github.com")
           for key, value in env.items() if key.startswith("GIT_CONFIG")}  # fmt: skip
    (tmp_path / ".gitconfig").write_text('[credential]\n\thelper = "!echo password=stale; :"\n')
    here = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GH_TOKEN": "t0ken", **git,
            "GIT_TERMINAL_PROMPT": "0"}  # fmt: skip
    asked = "protocol=https\nhost={}\n\n"
    done = run("git", "credential", "fill", env=here, input=asked.format("github.com"))
    assert "username=x-access-token\npassword=t0ken\n" in done.stdout
    done = run("git", "credential", "fill", env=here, input=asked.format("elsewhere.example"))
    assert "password" not in done.stdout


GH = """#!/bin/sh
printf '%s\\n' "gh $*" >> "$CALLS"
[ "$1 $2" != "issue list" ] || printf '%s' "$OPEN"
"""


@pytest.mark.parametrize(
    ("open_issue", "call"),
    [
        ("", "gh issue create --title Retraining failed --label retrain-failed --body $(no) `no`"),
        ("7\n", "gh issue comment 7 --body $(no) `no`"),
    ],
)
def test_a_failure_is_told_once(tmp_path: Path, open_issue: str, call: str) -> None:
    (step,) = load(FILES["retrain"].read_text(encoding="utf-8"))["jobs"]["report"]["steps"]
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"),
           "OPEN": open_issue, "LABEL": step["env"]["LABEL"], "BODY": "$(no) `no`"}  # fmt: skip
    done = run("bash", "-e", "-c", step["run"], env=env)
    assert done.returncode == 0, done.stderr
    label, listing, last = (tmp_path / "calls").read_text().splitlines()
    assert label.startswith("gh label create retrain-failed --force")
    assert listing.startswith("gh issue list --label retrain-failed --state open")
    assert last == call


def test_a_text_becomes_one_output_whatever_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("one\nother=2\nEOF\nother<<EOF\nlast")
    done = run(ROOT / ".ci/output", "text", tmp_path / "a.md")
    first, *middle, end = done.stdout.splitlines()
    assert first == f"text<<{end}"
    assert re.fullmatch(r"[0-9a-f]{32}", end)
    assert middle == ["one", "other=2", "EOF", "other<<EOF", "last"]
    missing = run(ROOT / ".ci/output", "text", tmp_path / "none")
    assert (missing.returncode, missing.stdout) == (0, "")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_names_each_secret_and_variable_of_the_workflow() -> None:
    flow = load(FILES["retrain"].read_text(encoding="utf-8"))
    names = {parts[0] for context in ("secrets", "vars") for parts in references(flow, context)}
    cells = "".join(re.findall(r"^\|[^|]+\|", PAGE, re.MULTILINE))
    told = set(re.findall(r"`(\w+)`", cells))
    assert names == told & names
    assert len(names) > 10


def test_the_pages_make_targets_and_crons_are_valid() -> None:
    found = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(re.findall(r"`[^`]+`", PAGE))))
    found |= set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(blocks(r"\w+"))))
    assert {"retrain"} <= found <= targets()
    crons = re.findall(r"^(\S+ \S+ \S+ \S+ \S+) cd ", PAGE, re.MULTILINE)
    assert crons
    assert [bad_cron(cron) for cron in crons] == [None] * len(crons)


def gitlab() -> str:
    (snippet,) = (block for block in blocks("yaml") if "CI_PIPELINE_SOURCE" in block)
    return snippet


def test_the_gitlab_snippet_fits_its_schema(tmp_path: Path) -> None:
    file = tmp_path / ".gitlab-ci.yml"
    file.write_text(gitlab())
    done = schema("gitlab-ci", file)
    assert done.returncode == 0, done.stdout
    assert "make retrain" in load(gitlab())["retrain"]["script"]
    file.write_text(gitlab().replace("script:", "scripts:", 1))
    assert schema("gitlab-ci", file).returncode == 1


def leaves(node: dict[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    """The keys that lead to each value below `node`."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, *above, key)
        else:
            yield (*above, key)


def test_the_pages_params_are_params() -> None:
    (snippet,) = (block for block in blocks("yaml") if "least_gain" in block)
    known = set(leaves(load((ROOT / "params.yaml").read_text(encoding="utf-8"))))
    by_reason = ("validate", "table", "rejected_for")  # its keys are the user's
    assert {keys for keys in leaves(load(snippet)) if keys[:3] != by_reason} <= known


def test_both_workflows_share_one_cache_of_packages() -> None:
    """It holds wheels of one Python: another one would find it full, and of no use."""
    keys = {
        name: set(re.findall(r"key: (uv-.*)", file.read_text())) for name, file in FILES.items()
    }
    assert len(keys["ci"]) == 1
    assert keys["ci"] == keys["retrain"]
    assert not any("setup-python" in file.read_text() for file in FILES.values())
