"""Credentials are told from all else that looks random, and kept out of the patch."""

import base64
import hashlib
import json
import random
import re
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from planted import LETTERS, TOKENS
from toy_tree import ROOT, Toy

from pipeline import lineage, lineage_patch
from pipeline.lineage_secrets import kinds, redact, redacted

pytest_plugins = ["toy_fixtures"]


@pytest.mark.parametrize("kind", TOKENS)
def test_a_credential_is_told_by_its_kind(kind: str) -> None:
    assert kinds(f"x = 1\n{TOKENS[kind]}\ny = 2\n") == [kind]


@pytest.mark.parametrize("kind", TOKENS)
def test_nothing_of_a_credential_is_shown(kind: str) -> None:
    shown = redact(f"can't use {TOKENS[kind]} here")
    assert shown.startswith("can't use ")
    assert shown.endswith(" here")
    for part in ("PRIVATE", "Q3EG", LETTERS[:12], "Tr0ub", "s3cr3t"):
        assert part not in shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "HF_TOKEN={}",
        "export API_KEY='{}'",
        '  "client_secret": "{}",',
        "  secret_key: {}",
        'os.environ["AWS_SECRET_ACCESS_KEY"] = "{}"',
        'api_key: str = "{}"',
        '"login(token=\\"{}\\")\\n"',
        "cmd: python push.py --hub-token {} --all",
    ],
)
def test_a_value_is_found_however_it_is_assigned(text: str) -> None:
    line = text.format(LETTERS[:20])
    assert kinds(line) == ["a literal password, token or key"]
    assert redact(line) == text.format("…")


def some_bytes(count: int) -> bytes:
    return random.Random(0).randbytes(count)


@pytest.mark.parametrize(
    "text",
    [
        hashlib.sha256(b"a").hexdigest(),
        f"md5: {hashlib.md5(b'a').hexdigest()}.dir",
        f"mlflow==3.1 --hash=sha256:{hashlib.sha256(b'a').hexdigest()}",
        f'integrity "sha512-{base64.b64encode(some_bytes(64)).decode()}"',
        json.dumps({"image": base64.b64encode(some_bytes(500_000)).decode()}),
        base64.urlsafe_b64encode(some_bytes(500_000)).decode(),
        str(uuid.UUID(int=12345678901234567890)),
        "a token of love: red, 24 karat; password reset email, secret santa 2024",
        "the key is under the mat at 221B Baker Street, api key holder",
        'tokens = tokenizer(["a b"]); token = tokens[0]; token: int = 49407',
        '"eos_token": "<|endoftext|>", "unk_token": "[UNK]", "token": "tokenizer_v2.json"',
        "pretrained_token: laion2b_s34b_b79k",
        "password = os.environ['DB_PASSWORD']; token=${HF_TOKEN2024}; secret: $SECRET1234",
        'f"http://{user}:{password}@{host}/x"; "http://user:password@host"; "redis://a:a@b"',
        "https://host:8080/@scope/package and mail to somebody@example.org: 12:30",
        "key = 'AKIAIOSFODNN7EXAMPLE'",
        "token = s3cr3tW1nt3rXyz99  # pragma: allowlist secret",
        "--max-tokens 4096 --token-file /run/secrets/token1234",
    ],
    ids=lambda text: text[:20],
)
def test_what_only_looks_like_one_is_let_be(text: str) -> None:
    assert kinds(text) == []


def test_values_keep_their_shape() -> None:
    token = TOKENS["a GitHub token"]
    found = redacted({"a": [token, 1, None], "b": {"c": f"git clone {token}"}, "d": 0.5})
    assert found == {"a": ["…", 1, None], "b": {"c": "git clone …"}, "d": 0.5}


@pytest.mark.parametrize("part", ["token=", "://a:", "a", "eyJ-", "--a-", "-----BEGIN A "])
def test_the_time_grows_with_the_length_of_a_text_alone(part: str) -> None:
    text = part * (300_000 // len(part))
    began = time.perf_counter()
    kinds(text)
    redact(text)
    assert time.perf_counter() - began < 10  # of squares, minutes


def test_the_last_commits_of_this_repository_hold_none() -> None:
    """50 of them, 0.9 MB of diffs: 0 found; nor any in all 183 when this was written (4.7 MB)."""
    command = ["git", "log", "-50", "-p", "--format=", "--no-ext-diff", "--binary"]
    prefixes = ["--src-prefix=a/", "--dst-prefix=b/"]
    done = subprocess.run([*command, *prefixes], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("no git repository")
    text = re.sub(rb"(?m)^[-+ ]", b"", done.stdout).decode("utf-8", "replace")
    assert kinds(text) == []
    assert lineage_patch.cleared(done.stdout)[1] == []


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    toy = Toy(tmp_path / "repo")
    toy.path.mkdir()
    monkeypatch.chdir(toy.path)
    toy.git("init", "-q", "-b", "main")
    toy.git("config", "user.email", "a@b")
    toy.git("config", "user.name", "a")
    Path("code.py").write_text("print(1)\n" * 20)
    Path("picture.bin").write_bytes(bytes(range(256)))
    toy.commit()
    return toy


def read(*, patched: bool = True) -> lineage.Code:
    return lineage.read_code(outputs=(), data=(), patched=patched)


def test_a_file_with_a_credential_leaves_the_patch_and_the_rest_stays(
    repo: Toy, tmp_path: Path
) -> None:
    Path("code.py").write_text("print(1)\n" * 20 + TOKENS["an AWS access key"])
    Path('ünï "codé".txt').write_text(f"a\n{TOKENS['a private key']}\n")
    Path("picture.bin").write_bytes(bytes(256) + TOKENS["a GitHub token"].encode())
    Path("win.env").write_bytes(f"HF={TOKENS['a Hugging Face token']}".encode("utf-16"))
    Path("note.txt").write_text("kept\n")
    code = read()
    assert code.secrets == (
        "code.py (an AWS access key)",
        "picture.bin (a GitHub token)",
        "win.env (a Hugging Face token)",
        'ünï "codé".txt (a private key)',
    )
    assert code.left_out == (
        "not in the patch, for it holds a credential, so that the run can't be rebuilt from its "
        f"record: {', '.join(code.secrets)}"
    )
    copy = Toy(tmp_path / "copy")
    repo.git("clone", "-q", ".", str(copy.path))
    (tmp_path / "patch").write_bytes(code.patch or b"")
    copy.git("apply", str(tmp_path / "patch"))
    assert copy.git("status", "--porcelain") == "?? note.txt"


def test_a_credential_that_a_change_takes_away_is_not_stored_either(repo: Toy) -> None:
    Path("code.py").write_text(TOKENS["a GitLab token"] + "\nprint(1)\n")
    repo.commit()
    Path("code.py").write_text("print(1)\n")
    assert read().secrets == ("code.py (a GitLab token)",)
    assert (read().dirty, read().patch) == (True, None)


def test_a_renamed_file_is_named_as_it_is_now(repo: Toy) -> None:
    Path("code.py").rename("new name.py")
    Path("new name.py").write_text("print(1)\n" * 20 + TOKENS["a password in a URI"])
    assert read().secrets == ("new name.py (a password in a URI)",)


def test_no_patch_is_stored_where_it_is_turned_off(repo: Toy) -> None:
    assert read(patched=False).left_out is None
    Path("note.txt").write_text(TOKENS["a Slack token"])
    Path("big.bin").write_bytes(b"0" * (lineage.FILE_LIMIT + 1))
    code = read(patched=False)
    assert (code.dirty, code.patch, code.secrets) == (True, None, ())
    assert code.left_out == "CLIPTUNE_PATCH=off: no patch was stored"


def test_what_dvc_add_wrote_beside_data_is_in_the_patch(repo: Toy) -> None:
    Path("data/mine").mkdir(parents=True)
    for name in ("1.jpg", "set.dvc", ".gitignore"):
        Path("data/mine", name).write_text(f"/{name}x")
    patch = lineage.read_code(outputs=(), data=("data/mine",)).patch or b""
    assert b"+/set.dvcx" in patch
    assert b"+/.gitignorex" in patch
    assert b"1.jpg" not in patch
