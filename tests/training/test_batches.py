import numpy as np
import pandas as pd
import pytest

from pipeline.errors import TrainingError
from pipeline.training import batches


def pairs() -> pd.DataFrame:
    """Ten images, image i with 1 + i % 3 captions."""
    rows = [(f"{i:02}", f"caption {i}.{j}") for i in range(10) for j in range(1 + i % 3)]
    return pd.DataFrame(rows, columns=["image_id", "caption"]).sample(frac=1, random_state=0)


def test_an_epoch_shows_each_image_once_and_leaves_out_a_partial_batch() -> None:
    frame = pairs()
    images = batches.rows_by_image(frame)
    seen = list(batches.epoch(images, batch_size=4, seed=0, number=1))
    assert [len(rows) for rows in seen] == [4, 4]
    ids = frame.image_id.to_numpy()[np.concatenate(seen)]
    assert len(set(ids)) == 8


def test_order_is_a_function_of_seed_and_epoch() -> None:
    images = batches.rows_by_image(pairs())

    def order(seed: int, number: int) -> list[int]:
        drawn = batches.epoch(images, batch_size=5, seed=seed, number=number)
        return [int(row) for rows in drawn for row in rows]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_in_time_every_caption_is_seen() -> None:
    frame = pairs()
    images = batches.rows_by_image(frame)
    epochs = [batches.epoch(images, batch_size=5, seed=0, number=n) for n in range(40)]
    assert {int(row) for e in epochs for rows in e for row in rows} == set(range(len(frame)))


def test_fewer_images_than_a_batch_is_refused_with_the_remedy() -> None:
    assert batches.steps_per_epoch(10, 4) == 2
    with pytest.raises(TrainingError, match=r"10 images.*batch_size 16.*batch_size to 5"):
        batches.steps_per_epoch(10, 16)
