"""The embed stage's work: what is computed, what is kept, and that neither shows in the result."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.artifacts import sha256_of, sha256_text
from pipeline.clip import store, work
from pipeline.clip.embed_pairs import embed_pairs
from pipeline.clip.model import Clip, load_folder
from pipeline.clip.search import search
from pipeline.clip.spread import everywhere, seen_by_all
from pipeline.data.images import open_image
from pipeline.data.pairs import PAIR, PAIRS_FILE, read_pairs, read_rejected, write_table
from pipeline.data.places import Place
from pipeline.errors import ConfigError, DataError, ModelError
from pipeline.params import MismatchParams, Params
from pipeline.registry import bundle
from tests.drawing import ROOT


class Project:
    """A work tree with a source, its clean pairs and a model, in the current folder."""

    def __init__(self, root: Path, source: Path, params: Params):
        self.root, self.source, self.params = root, source, params
        rows = pd.read_csv(source / "captions.csv")
        self.pairs = pd.DataFrame(
            {
                **{name: [None] * len(rows) for name in PAIR.names},
                "pair": range(1, len(rows) + 1),
                "source_row": range(1, len(rows) + 1),
                "image_id": [sha256_of(source / image) for image in rows.image],
                "image": rows.image,
                "file": rows.image,
                "packed": False,
                "caption": rows.caption,
                "split": "train",
                "width": 48,
                "height": 40,
            }
        )

    def embed(self, pairs=None, *, cache="cache", out="out", **changes):
        clean = self.root / "data" / "clean"
        clean.mkdir(parents=True, exist_ok=True)
        write_table(self.pairs if pairs is None else pairs, PAIR, clean / PAIRS_FILE)
        embed_pairs(
            clean,
            self.source,
            self.root / out,
            self.root / "selected",
            self.params.embed.model_copy(update=changes),
            packed=self.root / "packed",
            base=self.params.model,
            cpu_threads=2,
            cache=self.root / cache,
            accepted=self.root / "accepted.json",
            projection_file=self.root / "projection.csv",
        )
        return sha256_of(self.root / out)

    def fresh(self, pairs=None, **changes):
        """The result of a run that can build on nothing."""
        shutil.rmtree(self.root / "none", ignore_errors=True)
        return self.embed(pairs, cache="none", out="fresh", **changes)


@pytest.fixture
def project(tmp_path, pictures, tiny, defaults, monkeypatch):
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.delenv("CLIPTUNE_PROCESSES", raising=False)
    bundle.save(root / "model", tiny, record={})
    model = defaults.model.model_copy(update={"pretrained": "../model"})
    embed = defaults.embed.model_copy(update={"batch_size": 4})
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("../samples/base_model/out", "../model").replace(
        "samples/scenes/out", str(pictures)
    )
    (root / "params.yaml").write_text(
        re.sub(r"(embed:\n(?:  #.*\n)*)  batch_size: auto", r"\1  batch_size: 4", text)
    )
    return Project(root, pictures, defaults.model_copy(update={"model": model, "embed": embed}))


def computed(capsys):
    """How many images and texts were computed, by the lines that tell it."""
    said = capsys.readouterr().err
    found = dict.fromkeys(("images", "texts"), 0)
    for unit, count in re.findall(
        r"(images|texts): [\d,]+ from the cache, ([\d,]+) computed", said
    ):
        found[unit] += int(count)
    return found


def test_nothing_is_computed_twice(project, capsys):
    first = project.embed()
    assert computed(capsys) == {"images": 16, "texts": 16}
    assert project.embed() == first
    assert computed(capsys) == {"images": 0, "texts": 0}


def test_new_rows_alone_are_computed_and_those_that_left_are_gone(project, capsys):
    project.embed(project.pairs.iloc[:13])
    capsys.readouterr()
    more = project.pairs.iloc[2:]
    found = project.embed(more)
    assert computed(capsys) == {"images": 3, "texts": 3}
    assert found == project.fresh(more)
    assert len(store.read(project.root / "out", "images")) == 14


def test_another_caption_costs_one_text(project, capsys):
    project.embed()
    capsys.readouterr()
    changed = project.pairs.copy()
    changed.loc[3, "caption"] = "something else altogether"
    found = project.embed(changed)
    assert computed(capsys) == {"images": 0, "texts": 1}
    assert found == project.fresh(changed)


@pytest.mark.parametrize("change", [{"precision": "fp32"}, {"exact": True}, {"batch_size": 8}])
def test_another_way_of_computing_computes_anew(project, capsys, change):
    project.embed(**{"precision": "bf16"})
    capsys.readouterr()
    project.embed(**({"precision": "bf16"} | change))
    assert computed(capsys)["images"] == 16


def test_another_model_computes_all(project, tiny, capsys):
    project.embed()
    capsys.readouterr()
    with torch.no_grad():
        tiny.model.logit_scale.add_(0.25)
    shutil.rmtree(project.root / "model")
    bundle.save(project.root / "model", tiny, record={})
    project.embed()
    assert computed(capsys) == {"images": 16, "texts": 16}


def test_the_dtype_on_disk_costs_no_computing(project, capsys):
    project.embed(dtype="fp32")
    capsys.readouterr()
    assert project.embed(dtype="fp16") == project.fresh(dtype="fp16")


def reference(project, clip: Clip):
    """What OpenCLIP itself makes of the pictures and captions, one at a time, in fp32."""
    images, texts = {}, {}
    with torch.no_grad():
        for row in project.pairs.itertuples():
            with open_image(Place(project.source / row.image)) as picture:
                crop = torch.from_numpy(clip.crop(picture).copy())[None]
            vector = clip.model.encode_image(clip.pixels(crop), normalize=True)
            images[row.image_id] = vector[0].numpy()
            vector = clip.model.encode_text(clip.tokenizer([row.caption]), normalize=True)
            texts[sha256_text(row.caption)] = vector[0].numpy()
    return {"images": images, "texts": texts}


@pytest.mark.parametrize(
    ("change", "least"),
    [
        ({"precision": "fp32", "exact": True}, 1 - 1e-6),
        ({"precision": "fp32"}, 0.9999),
        ({"precision": "bf16"}, 0.999),
    ],
    ids=["exact", "fp32", "bf16"],
)
def test_vectors_are_those_of_openclip(project, change, least):
    project.embed(dtype="fp32", **change)
    for name, expected in reference(project, load_folder(project.root / "model")).items():
        found = store.read(project.root / "out", name).take(list(expected))
        cosines = np.einsum("nd,nd->n", found, np.stack(list(expected.values())))
        assert cosines.min() >= least


def test_scores_are_the_cosines_of_the_pairs(project):
    project.embed(dtype="fp32")
    scores = pq.read_table(project.root / "out" / "scores.parquet").to_pandas()
    images = store.read(project.root / "out", "images")
    texts = store.read(project.root / "out", "texts")
    row = project.pairs.iloc[5]
    cosine = images.take([row.image_id])[0] @ texts.take([sha256_text(row.caption)])[0]
    assert scores.score[5] == pytest.approx(cosine, abs=1e-6)
    assert scores.pair.tolist() == project.pairs.pair.tolist()


def test_images_that_have_gone_bad_are_told_at_once_and_the_rest_is_kept(project, capsys):
    for name in ("images/03.jpg", "images/07.jpg"):
        (project.source / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"2 images can't be decoded, as .*images/0[37]\.jpg"):
        project.embed()
    listed = pd.read_csv(project.root / "cache" / "failed.csv")
    assert sorted(Path(file).name for file in listed.file) == ["03.jpg", "07.jpg"]
    capsys.readouterr()
    sound = project.pairs[~project.pairs.image.isin(["images/03.jpg", "images/07.jpg"])]
    assert project.embed(sound) == project.fresh(sound)


KILLED = """
    import os, signal
    from pathlib import Path
    import pipeline.clip.fill as fill
    from pipeline.clip import work, spread
    from pipeline import paths
    from pipeline.params import EmbedStage, load
    fill.SEGMENT = {segment}
    params = load(EmbedStage)
    job = work.prepare(paths.CLEAN, Path(params.source), params.embed, packed=paths.PACKED,
                       base=params.model, cpu_threads=2, cache=Path("cache"))
    left = {left}
    images, texts = job.towers.images, job.towers.texts
    def counted(embed):
        def one(batch):
            global left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return embed(batch)
        return one
    job.towers.images, job.towers.texts = counted(images), counted(texts)
    work.complete(job, cache=Path("cache"))
"""


@pytest.mark.parametrize(("batches", "kept"), [(0, 0), (3, 8), (5, 16), (6, 20)])
def test_what_was_finished_before_a_kill_is_kept(project, capsys, batches, kept):
    expected = project.fresh()
    capsys.readouterr()
    code = textwrap.dedent(KILLED).format(segment=4, left=batches)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == -9
    assert project.embed() == expected
    assert sum(computed(capsys).values()) == 32 - kept


def test_two_processes_make_the_same_bytes(project, capfd, monkeypatch):
    expected = project.fresh()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CLIPTUNE_PROCESSES", "2")
    capfd.readouterr()
    assert project.embed(cache=".cliptune/embeddings") == expected
    said = capfd.readouterr().err
    assert said.count("images: 0 from the cache, 8 computed") == 2
    assert "16 images: 16 from the cache" in said


def test_a_lost_process_is_told_and_the_next_run_completes(project, monkeypatch):
    expected = project.fresh()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CLIPTUNE_PROCESSES", "2")

    def kill_one():
        until = time.monotonic() + 60
        while time.monotonic() < until:
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.environ().get("RANK") == "1":
                        process.kill()
                        return
                except psutil.Error:
                    continue
            time.sleep(0.05)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(ModelError, match=r"process 1 of 2 was killed \(SIGKILL"):
        everywhere()
    killer.join()
    assert project.embed(cache=".cliptune/embeddings") == expected


@pytest.mark.parametrize("lacking", ["images", "captions"])
def test_work_that_went_to_another_folder_is_told(project, lacking):
    project.embed()
    (project.root / "cache" / lacking.replace("captions", "texts")).rename(project.root / "moved")
    job = work.prepare(
        project.root / "data" / "clean", project.source, project.params.embed,
        packed=project.root / "packed", base=project.params.model, cpu_threads=2,
        cache=project.root / "cache",
    )  # fmt: skip
    with pytest.raises(DataError, match=f"16 {lacking} that another process embedded are not in"):
        seen_by_all(job)


def test_a_number_of_processes_that_is_none_is_refused(project, monkeypatch):
    monkeypatch.setenv("CLIPTUNE_PROCESSES", "two")
    with pytest.raises(ConfigError, match="CLIPTUNE_PROCESSES is 'two'"):
        project.embed()


@pytest.mark.gpu
def test_a_gpu_decodes_and_embeds_what_a_cpu_does(project, monkeypatch):
    project.embed(dtype="fp32", decoder="nvjpeg", precision="fp32")
    found = store.read(project.root / "out", "images")
    monkeypatch.setenv("CLIPTUNE_DEVICE", "cpu")
    project.fresh(dtype="fp32", precision="fp32")
    expected = store.read(project.root / "fresh", "images")
    everything = np.arange(len(expected))
    cosines = np.einsum("nd,nd->n", found.rows(everything), expected.rows(everything))
    assert cosines.min() >= 0.999


@pytest.mark.parametrize("change", [{"decoder": "nvjpeg"}, {"precision": "fp16"}])
def test_what_needs_a_gpu_is_refused_by_name_without_one(project, monkeypatch, change):
    monkeypatch.setenv("CLIPTUNE_DEVICE", "cpu")
    (name, value), *_ = change.items()
    with pytest.raises(ConfigError, match=f"embed.{name} is {value}, which needs a GPU"):
        project.embed(**change)


def test_mismatched_pairs_are_set_apart_with_their_fit(project):
    project.embed(mismatched=MismatchParams(drop_below=None, drop_share=0.25))
    kept = read_pairs(project.root / "selected")
    gone = read_rejected(project.root / "selected")
    assert (len(kept), len(gone)) == (12, 4)
    assert set(gone.reason) == {"caption_mismatched"}
    scores = pq.read_table(project.root / "out" / "scores.parquet").to_pandas().set_index("pair")
    assert scores.fit[gone.pair].max() < scores.fit[kept.pair].min()
    assert gone.value.iloc[0] == f"fit {scores.fit[gone.pair.iloc[0]]:.3f}"


def search_in(project, text="a red square", count=3):
    model = project.params.model
    return search(text, project.root / "out", base=model, cpu_threads=2, count=count)


def test_a_text_finds_the_pictures_of_the_greatest_cosine(project):
    project.embed(dtype="fp32", precision="fp32")
    hits = search_in(project)
    images = store.read(project.root / "out", "images")
    texts = store.read(project.root / "out", "texts")
    caption = project.pairs.caption[0]
    hits = search_in(project, caption)
    cosines = images.rows(np.arange(16)) @ texts.take([sha256_text(caption)])[0]
    assert [hit.cosine for hit in hits] == pytest.approx(sorted(cosines)[:-4:-1], abs=1e-5)


def test_a_search_in_the_embeddings_of_another_model_is_refused(project, tiny):
    with pytest.raises(ModelError, match="holds no embeddings"):
        search_in(project)
    project.embed()
    with torch.no_grad():
        tiny.model.logit_scale.add_(0.25)
    shutil.rmtree(project.root / "model")
    bundle.save(project.root / "model", tiny, record={})
    with pytest.raises(ModelError, match="other weights"):
        search_in(project)
