"""A bundle as a model of MLflow: loaded here, without the project, over HTTP, and from a run."""

import base64
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image
from toy_tree import Numbers, Toy

from pipeline import tracking, tracking_model
from pipeline.artifacts import read_json
from pipeline.clip import model
from pipeline.clip.embed import embed_texts
from pipeline.clip.model import Clip
from pipeline.evaluation.zeroshot import class_weights
from pipeline.params import Params
from pipeline.registry import bundle
from tests.drawing import COLOURS, ROOT, draw

pytest_plugins = ["toy_fixtures"]

CLASSES, TEMPLATES = ["red", "blue", "green"], ["a {} square", "{}"]


@pytest.fixture(scope="module")
def clip() -> Clip:
    config = ROOT / "samples" / "base_model" / "scenes-resnet.json"
    return model.create("scenes-resnet", config, seed=0)


@pytest.fixture(scope="module")
def folder(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of an untrained bundle, with the bundle gone."""
    work = tmp_path_factory.mktemp("mlflow")
    bundle.save(work / "final", clip, record={})
    tracking_model.save_model(work / "final", work / "model")
    (work / "final").rename(work / "elsewhere")
    return work / "model"


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Any:
    return mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("pictures") / "red.jpg"
    draw(file, COLOURS["red"], size=(90, 61))
    return file.read_bytes()


def text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


@torch.no_grad()
def image_vector(clip: Clip, content: bytes) -> np.ndarray[Any, Any]:
    crop = torch.from_numpy(clip.crop(Image.open(io.BytesIO(content))).copy())[None]
    vector: torch.Tensor = clip.model.encode_image(clip.pixels(crop), normalize=True)  # type: ignore[operator]
    return vector[0].numpy()


def text_vectors(clip: Clip, texts: list[str]) -> np.ndarray[Any, Any]:
    return embed_texts(clip, texts, batch_size=8, device=torch.device("cpu"))


def test_vectors_are_the_models_where_a_row_has_what_they_are_of(
    clip: Clip, loaded: Any, jpeg: bytes
) -> None:
    rows = pd.DataFrame({"image": [jpeg, None, text(jpeg)], "text": [None, "a red star", "blue"]})
    found = loaded.predict(rows)
    image, words = image_vector(clip, jpeg), text_vectors(clip, ["a red star", "blue"])
    assert list(found.columns) == ["image_embedding", "text_embedding"]
    assert found["image_embedding"][1] is found["text_embedding"][0] is None
    for row in (0, 2):
        assert np.allclose(found["image_embedding"][row], image, atol=1e-6)
    for row, vector in ((1, words[0]), (2, words[1])):
        assert np.allclose(found["text_embedding"][row], vector, atol=1e-6)


def test_one_column_is_enough(clip: Clip, loaded: Any) -> None:
    texts = [f"a star, number {n}" for n in range(40)]  # more than go through together
    found = loaded.predict(pd.DataFrame({"text": texts}))
    assert list(found.columns) == ["text_embedding"]
    vectors = np.array(found["text_embedding"].tolist())
    assert np.allclose(vectors, text_vectors(clip, texts), atol=1e-6)


def test_probabilities_are_those_of_zero_shot_classification(
    clip: Clip, loaded: Any, jpeg: bytes
) -> None:
    given = {"classes": CLASSES, "templates": TEMPLATES}
    found = loaded.predict(pd.DataFrame({"image": [jpeg]}), params=given)
    weights = class_weights(CLASSES, TEMPLATES, lambda texts: text_vectors(clip, texts))
    scale = clip.model.logit_scale.exp().item()  # type: ignore[operator]
    scores = np.exp(scale * image_vector(clip, jpeg) @ weights.T)
    assert list(found.columns) == CLASSES
    assert np.allclose(found.to_numpy()[0], scores / scores.sum(), atol=1e-5)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def test_pictures_become_rgb_by_the_rules_of_the_pipeline(clip: Clip, loaded: Any) -> None:
    """Turned by its EXIF, transparent: what plain Pillow would show otherwise."""
    picture = Image.linear_gradient("L").resize((90, 61)).convert("RGB")
    picture.paste((200, 30, 30), (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = Image.new("RGBA", (50, 40), (10, 20, 30, 0))
    turned = encoded(picture, "PNG", exif=exif)
    rows = pd.DataFrame({"image": [turned, encoded(clear, "PNG")]})
    found = loaded.predict(rows)["image_embedding"]
    upright = encoded(picture.transpose(Image.Transpose.ROTATE_270), "PNG")
    white = encoded(Image.new("RGB", (50, 40), "white"), "PNG")
    assert np.abs(found[0] - image_vector(clip, upright)).max() < 1e-6
    assert np.abs(found[1] - image_vector(clip, white)).max() < 1e-6
    assert np.abs(found[0] - image_vector(clip, encoded(picture, "PNG"))).max() > 1e-5


def bomb(*, width: int, height: int) -> bytes:
    return encoded(Image.new("1", (width, height)), "PNG")


GOOD = encoded(Image.new("RGB", (9, 9)), "PNG")
CUT = encoded(Image.effect_noise((90, 61), 50), "JPEG")[:1500]


@pytest.mark.parametrize(
    ("columns", "params", "message"),
    [
        ({"picture": ["x"]}, {}, "neither a column `image` nor a column `text`"),
        ({"image": [None], "text": [None]}, {}, "row 0: it has neither an `image` nor a `text`"),
        ({"image": [GOOD, "nonsense!"]}, {}, "row 1: its `image` is neither bytes nor base64"),
        ({"image": [GOOD, b"\xff\xd8 no"]}, {}, "row 1: its `image` is no JPEG or PNG or WEBP"),
        ({"image": [GOOD, CUT]}, {}, "row 1: its `image` can't be decoded"),
        ({"image": [bomb(width=9000, height=9000)]}, {}, "row 0: its image has 9000×9000 pixels"),
        ({"image": [bytes(50_000_001)]}, {}, r"row 0: its image has 50,000,001 bytes"),
        ({"image": [GOOD], "text": ["x"]}, {"classes": ["a"]}, "give the column `image` and no"),
        ({"image": [GOOD, None]}, {"classes": ["a"]}, "row 1: its `image` is None"),
        ({"image": [GOOD]}, {"classes": ["a", "a"]}, "`classes` names a class twice"),
        ({"image": [GOOD]}, {"classes": ["a"], "templates": ["a star"]}, "each of `templates`"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(
    columns: dict[str, list[Any]], params: dict[str, Any], message: str, loaded: Any
) -> None:
    with pytest.raises(MlflowException, match=message) as refused:
        loaded.predict(pd.DataFrame(columns), params=params)
    assert refused.value.get_http_status_code() == 400


def test_what_pillow_itself_refuses_is_named_too(
    loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere Pillow has a limit of its own, which the pipeline lifts where it is imported."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(MlflowException, match=r"row 0: .* exceeds limit of 2000 pixels"):
        loaded.predict(pd.DataFrame({"image": [bomb(width=100, height=100)]}))


def test_the_limits_are_those_of_validate_and_can_be_set(
    folder: Path, jpeg: bytes, defaults: Params
) -> None:
    shipped = {name: getattr(defaults.limits, name) for name in tracking_model.LIMITS}
    assert shipped == tracking_model.LIMITS
    strict = mlflow.pyfunc.load_model(str(folder), model_config={"max_pixels": 90 * 61 - 1})
    with pytest.raises(MlflowException, match="row 0: its image has 90×61 pixels, and 5,489 are"):
        strict.predict(pd.DataFrame({"image": [jpeg]}))


def test_it_holds_source_and_safetensors_and_no_place(clip: Clip, tmp_path: Path) -> None:
    bundle.save(tmp_path / "final", clip, record={})
    folder = tmp_path / "model"
    tracking_model.save_model(tmp_path / "final", folder)
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*")}
    names = [name for name, file in files.items() if file.is_file()]
    assert {Path(name).suffix for name in names} == {
        "",
        ".json",
        ".py",
        ".safetensors",
        ".txt",
        ".yaml",
    }
    for name in names:
        content = files[name].read_bytes()
        assert str(folder.parent).encode() not in content, name
        assert str(ROOT).encode() not in content, name
    requirements = files["requirements.txt"].read_text().splitlines()
    assert f"torch=={torch.__version__.partition('+')[0]}" in requirements


def test_it_loads_without_the_project(
    clip: Clip, folder: Path, jpeg: bytes, tmp_path: Path
) -> None:
    """Outside the repository, in a process that can't import it."""
    script = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "pipeline":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
import json, mlflow, pandas, PIL.Image
limit = PIL.Image.MAX_IMAGE_PIXELS
loaded = mlflow.pyfunc.load_model(sys.argv[1])
assert PIL.Image.MAX_IMAGE_PIXELS == limit
found = loaded.predict(pandas.DataFrame({"image": [sys.argv[2]]}))
print(json.dumps(found["image_embedding"][0]))
"""
    command = [sys.executable, "-c", script, str(folder), text(jpeg)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert np.allclose(found, image_vector(clip, jpeg), atol=1e-6)


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[int]:
    """The port of `mlflow models serve`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "-m", str(folder), "-p", str(port)],
            cwd=tmp_path,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 120
        while not answers(port):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            time.sleep(0.2)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def post(port: int, body: dict[str, Any]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/invocations", json.dumps(body), headers)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def test_it_is_served(clip: Clip, server: int, folder: Path, jpeg: bytes) -> None:
    rows = {"columns": ["image", "text"], "data": [[text(jpeg), None], [None, "a red star"]]}
    status, found = post(server, {"dataframe_split": rows})
    assert status == 200
    image, words = (
        found["predictions"][n][f"{k}_embedding"] for n, k in ((0, "image"), (1, "text"))
    )
    assert np.allclose(image, image_vector(clip, jpeg), atol=1e-6)
    assert np.allclose(words, text_vectors(clip, ["a red star"])[0], atol=1e-6)

    status, found = post(server, read_json(folder / "serving_input_example.json"))
    assert status == 200
    assert sum(found["predictions"][0].values()) == pytest.approx(1)
    assert list(found["predictions"][0]) == ["a cat", "a dog"]

    for row, said in (
        ([text(b"no picture"), None], "row 0: its `image` is no JPEG"),
        ([None, None], "row 0: it has neither"),
        ([text(bomb(width=9000, height=9000)), None], "row 0: its image has 9000×9000 pixels"),
    ):
        body = {"dataframe_split": {"columns": ["image", "text"], "data": [row]}}
        status, found = post(server, body)
        assert (status, said in found["message"]) == (400, True), found


def test_a_run_holds_the_model(here: Toy, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle.save(Path("models/final"), clip, record={})
    with tracking.stage_run("evaluate", Numbers(seed=0)) as run:
        run.model(Path("models/final"))
    [said] = json.loads(here.client().get_run(run.run_id).data.tags["mlflow.log-model.history"])
    assert (said["run_id"], said["artifact_path"]) == (run.run_id, "model")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", here.receipt("evaluate")["tracking_uri"])
    mlflow.set_tracking_uri(here.receipt("evaluate")["tracking_uri"])
    found = mlflow.pyfunc.load_model(f"runs:/{run.run_id}/model")
    assert found.metadata.run_id == run.run_id
    vector = found.predict(pd.DataFrame({"text": ["a red star"]}))["text_embedding"][0]
    assert np.allclose(vector, text_vectors(clip, ["a red star"])[0], atol=1e-6)


def test_a_model_that_can_not_be_logged_costs_no_result(
    here: Toy, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("models/broken").mkdir(parents=True)
    with tracking.stage_run("evaluate", Numbers(seed=0)) as run:
        run.model(Path("models/broken"))
    assert here.client().get_run(run.run_id).info.status == "FINISHED"
    assert "models/broken is not logged as a model of MLflow" in capsys.readouterr().err


def test_no_model_is_logged_where_none_is_wanted(
    here: Toy, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPTUNE_LOG_MODEL", "off")
    bundle.save(Path("models/final"), clip, record={})
    with tracking.stage_run("evaluate", Numbers(seed=0)) as run:
        run.model(Path("models/final"))
    assert here.client().list_artifacts(run.run_id, "model") == []
