"""The same rows and bytes, whatever the table holds and whatever befell the run before."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.artifacts import sha256_of
from pipeline.data.pairs import read_pairs, read_rejected
from pipeline.data.sources import batches
from pipeline.params import Threshold
from pipeline.validation import validate as validate_of
from tests.validation.validating import embedded, folders, run

ROOT = Path(__file__).parents[2]


def bytes_of(out):
    """The hash of each file that validate made."""
    made = [folders(out)[name] for name in ("folder", "packed", "quality")]
    return {
        str(file.relative_to(out)): sha256_of(file) for folder in made for file in folder.iterdir()
    }


CELLS = st.one_of(
    st.sampled_from(["images/00.jpg", "images/01.jpg", "none.jpg", "", "../x", "/etc/passwd"]),
    st.text(max_size=30),
)
LINES = st.one_of(
    st.tuples(CELLS, st.text(max_size=40), st.text(max_size=5)).map(
        lambda cells: ",".join('"' + cell.replace('"', '""') + '"' for cell in cells).encode(
            "utf-8", errors="surrogatepass"
        )
    ),
    st.binary(max_size=40),
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(LINES, min_size=1, max_size=12))
def test_no_row_of_a_dirty_table_is_lost(pictures, out, defaults, lines):
    good = b"images/02.jpg,a good row,red"
    content = b"\n".join([b"image,caption,label", good, *lines, b""])
    (pictures / "captions.csv").write_bytes(content)
    found = run(
        pictures, out, defaults, cache=out / "facts.sqlite",
        table={"rejected": Threshold(warn=None, stop=None)},
    )  # fmt: skip
    pairs, rejected = read_pairs(out / "valid"), read_rejected(out / "valid")
    assert sorted([*pairs.pair, *rejected.pair]) == list(range(1, found["read"] + 1))
    assert found["accepted"] + sum(found["rejected"].values()) == found["read"]
    assert len(pairs) == found["accepted"] >= 1
    assert rejected.reason.value_counts().to_dict() == found["rejected"]
    assert pairs.image.isin(["images/00.jpg", "images/01.jpg", "images/02.jpg"]).all()


def test_twice_gives_the_same_bytes_with_and_without_a_cache(pictures, out, defaults):
    embedded(pictures / "shards", pictures)
    (pictures / "captions.csv").unlink()
    arguments = {"data": {"source": str(pictures / "shards")}, "cache": out / "facts.sqlite"}
    run(pictures, out / "one", defaults, **arguments)
    run(pictures, out / "two", defaults, **arguments)
    run(pictures, out / "three", defaults, **{**arguments, "cache": None})
    assert len(bytes_of(out / "one")) == 10
    assert bytes_of(out / "one") == bytes_of(out / "two") == bytes_of(out / "three")


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.data.sources import batches
from pipeline.params import Params, load
from pipeline.validation import validate as validate_of
from tests.validation.validating import count_tokens, run

batches.MAX_ROWS = validate_of.CHECKED = 4
calls = []

def deadly(captions):
    calls.append(captions)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return count_tokens(captions)

source, out = Path(sys.argv[1]), Path(sys.argv[2])
run(source, out, load(Params), count_tokens=deadly, cache=out / "facts.sqlite")
"""


def test_a_killed_validate_reruns_to_the_same_bytes(pictures, out, defaults, monkeypatch):
    embedded(pictures / "shards", pictures)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(pictures), str(out / "again")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (out / "again" / ".valid.part" / "pairs.parquet").exists()
    assert not (out / "again" / "valid").exists()
    monkeypatch.setattr(batches, "MAX_ROWS", 4)
    monkeypatch.setattr(validate_of, "CHECKED", 4)
    run(pictures, out / "again", defaults, cache=out / "again" / "facts.sqlite")
    run(pictures, out / "fresh", defaults)
    assert bytes_of(out / "again") == bytes_of(out / "fresh")
    assert not list((out / "again").glob(".*.part"))
