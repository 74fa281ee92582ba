import json

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.validation.drift import FIGURES, compare, digest, moved_share, read_accepted
from tests.validation.tables import halves, images, pairs, profile, scenes

GERMAN = {
    "a": "ein", "the": "der", "of": "von", "on": "auf", "in": "im", "with": "mit", "is": "ist",
    "there": "da", "photo": "Foto", "red": "rot", "blue": "blau", "green": "grün", "small": "klein",
}  # fmt: skip


@pytest.fixture
def measured(tmp_path):
    def figures(present, reference):
        (tmp_path / "accepted.json").write_text(json.dumps([reference]))
        return compare(present, tmp_path / "accepted.json")["figures"]

    return figures


@pytest.fixture(scope="module")
def world():
    return scenes(1200)


def warned(figures, limits):
    return {
        name
        for name, value in figures.items()
        if value is not None and value > getattr(limits, name).warn
    }


def test_random_halves_of_one_source_never_warn(world, measured, defaults):
    for images_each in (100, 250, 500):
        for seed in range(12):
            one, other = halves(*world, images=images_each, seed=seed)
            figures = measured(profile(*one), profile(*other))
            assert warned(figures, defaults.limits.drift) == set()
            assert figures["vocabulary"] == 0
            moved = [value for name, value in figures.items() if name != "rows"]
            assert max(value for value in moved if value is not None) < 0.1


def test_without_the_correction_for_chance_halves_would_warn(world, defaults):
    def distance(seed):
        parts = [profile(*half) for half in halves(*world, images=50, seed=seed)]
        one, other = (np.array(part["brightness"]["counts"]) for part in parts)
        return np.abs(one / one.sum() - other / other.sum()).sum() / 2

    assert np.mean([distance(seed) for seed in range(12)]) > defaults.limits.drift.brightness.warn


def german(caption):
    return " ".join(GERMAN.get(word, f"{word}en") for word in caption.split())


SHIFTS = {
    "brightness": lambda t, i: (t, i.assign(brightness=i["brightness"] * 0.6)),
    "image_side": lambda t, i: (t, i.assign(width=i["width"] // 2, height=i["height"] // 2)),
    "labels": lambda t, i: (t.assign(label=np.where(t.index % 5 < 2, "new", t["label"])), i),
    "vocabulary": lambda t, i: (t.assign(caption=t["caption"].map(german)), i),
    "caption_words": lambda t, i: (t.assign(caption=t["caption"] + " and so on and on"), i),
    "rows": lambda t, i: (t.head(len(t) // 3), i),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_a_real_shift_warns_where_it_happened(world, measured, defaults, figure):
    for seed in range(4):
        one, other = halves(*world, images=250, seed=seed)
        figures = measured(profile(*SHIFTS[figure](*one)), profile(*other))
        assert figure in warned(figures, defaults.limits.drift)
        assert warned(figures, defaults.limits.drift) <= {figure, "vocabulary", "caption_words"}


def test_rows_are_compared_as_they_are(measured):
    small = profile(pairs(("a", "x", None), ("a", "y", None)), images("a"))
    large = profile(pairs(*[("a", "x", None)] * 5), images("a"))
    assert measured(large, small)["rows"] == 1.5
    assert measured(small, large)["rows"] == 0.6


def test_a_distance_less_its_chance_worked_by_hand():
    # 1,000 draws each of two bins: the pooled shares are 0.7 and 0.3.
    v = 0.7 * 0.3 * (2 / 1000)
    chance = (2 * np.sqrt(2 * v / np.pi) + 3 * np.sqrt((1 - 2 / np.pi) * 2 * v)) / 2
    found = moved_share(np.array([0.5, 0.5]), np.array([0.9, 0.1]), draws=(1000, 1000))
    assert found == pytest.approx((0.4 - chance) / (1 - chance))
    assert found == pytest.approx(0.375, abs=0.005)


def test_a_whole_move_is_1_and_no_move_is_0():
    one, other = np.array([0.5, 0.5, 0, 0]), np.array([0, 0, 0.5, 0.5])
    assert moved_share(one, other, draws=(500, 500)) == 1
    assert moved_share(one, one, draws=(500, 500)) == 0


def test_too_little_to_tell_is_null():
    one, other = np.zeros(200), np.zeros(200)
    one[:100], other[100:] = 0.01, 0.01
    assert moved_share(one, other, draws=(100, 100)) is None  # each label seen once
    assert moved_share(one, other, draws=(10_000, 10_000)) == pytest.approx(1)


def test_captions_of_one_picture_are_one_draw(measured):
    """Five captions a picture make no five times surer: labels go by picture."""
    rng = np.random.default_rng(0)

    def sample(start):
        labels = rng.integers(0, 40, 60)
        rows = [(f"{start + i}", f"x {k}", f"l{n}") for i, n in enumerate(labels) for k in range(5)]
        return profile(pairs(*rows), images([f"{start + i}" for i in range(60)]))

    assert all((measured(sample(0), sample(100))["labels"] or 0) < 0.1 for _ in range(10))


def test_of_more_labels_than_are_listed_chance_decides_and_nobody_warns(measured):
    rng = np.random.default_rng(0)

    def sample():
        labels = [f"l{n}" for n in rng.integers(0, 3000, 20_000)]
        ids = [f"{i}" for i in range(20_000)]
        return profile(pairs(*((i, "x", n) for i, n in zip(ids, labels, strict=True))), images(ids))

    one = sample()
    assert one["labels"]["rest"] > 0
    assert measured(one, sample())["labels"] < 0.05
    new = {**one, "labels": {**one["labels"], "counts": {"other": 20_000}, "rest": 0}}
    assert measured(new, one)["labels"] > 0.9


def test_words_of_the_long_tail_are_not_judged(measured):
    rng = np.random.default_rng(0)

    def sample(rows):
        ranks = np.minimum(rng.zipf(1.2, (rows, 8)), 10**7)
        captions = [" ".join(f"w{rank}" for rank in row) for row in ranks]
        ids = [f"{i}" for i in range(rows)]
        return profile(
            pairs(*((i, c, None) for i, c in zip(ids, captions, strict=True))), images(ids)
        )

    large, small = sample(8000), sample(500)
    assert len(large["vocabulary"]["words"]) == 2000 < large["vocabulary"]["distinct"]
    assert measured(sample(8000), large)["vocabulary"] == 0
    assert measured(small, large)["vocabulary"] == 0
    assert measured(large, small)["vocabulary"] == 0


def test_labels_and_words_that_neither_side_has_are_null(measured):
    bare = profile(pairs(("a", "!", None)), images("a"))
    figures = measured({**bare, "rows": 2}, bare)
    assert (figures["labels"], figures["vocabulary"]) == (None, None)


def test_losing_all_labels_is_a_move(measured):
    ids = [f"{i}" for i in range(300)]
    with_labels = profile(pairs(*((i, "x", f"l{int(i) % 3}") for i in ids)), images(ids))
    without = profile(pairs(*((i, "x", None) for i in ids)), images(ids))
    assert measured(without, with_labels)["labels"] == 1


def test_nothing_accepted_means_no_reference(tmp_path):
    present = profile(*scenes(20))
    none = {"reference": None, "figures": dict.fromkeys(FIGURES)}
    (tmp_path / "accepted.json").write_text("[]")
    assert compare(present, tmp_path / "accepted.json") == none
    assert compare(present, tmp_path / "missing.json") == none


def test_the_reference_is_the_newest_that_is_not_the_present(tmp_path):
    file = tmp_path / "accepted.json"
    a, b, c = (profile(*scenes(count)) for count in (20, 30, 40))
    references = {}
    for name, accepted in (("a", [a]), ("ab", [a, b]), ("bc", [b, c])):
        file.write_text(json.dumps(accepted))
        reference = compare(b, file)["reference"]
        references[name] = reference["profile"]
    assert references == {"a": digest(a), "ab": digest(a), "bc": digest(c)}
    assert reference["rows"] == c["rows"]


def test_a_digest_does_not_depend_on_the_order_of_keys():
    found = profile(*scenes(5))
    assert digest(dict(reversed(found.items()))) == digest(found)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("\udcff", "is not JSON"),
        ("{}", "is not a list of profiles (the whole: input should be a valid list)"),
        ('[{"version": 1}]', "is not a list of profiles (0.rows: field required)"),
        ("[[]]", "is not a list of profiles (0: "),
    ],
)
def test_a_malformed_file_is_named_with_its_remedy(tmp_path, content, said):
    file = tmp_path / "accepted.json"
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError) as raised:
        read_accepted(file)
    assert said in str(raised.value)
    assert str(raised.value).startswith(str(file))
    assert str(raised.value).endswith("write [] into it and run `cliptune accept`")


def test_a_profile_of_another_version_is_refused(tmp_path):
    file = tmp_path / "accepted.json"
    file.write_text(json.dumps([{**profile(*scenes(5)), "version": 0}]))
    with pytest.raises(DataError, match="profiles of another version"):
        read_accepted(file)


def test_the_order_of_rows_does_not_matter(world):
    table, pictures = world
    assert profile(table.sample(frac=1, random_state=0), pictures) == profile(table, pictures)
