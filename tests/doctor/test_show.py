from pipeline.doctor import show
from pipeline.doctor.findings import Fact, Finding, about, size_of, worst_first

FINDINGS = [
    Finding("note", "finetune.warmup", 0.0, "the first step takes the whole rate", "0.1"),
    Finding("stops", "finetune.batch_size", 128, "no batch is full", "set it to 24"),
    Finding("stops", "finetune.epoch", None, "unknown key `finetune.epoch`", ""),
]
FACTS = [
    Fact("plan", "steps", "about 60: 10 epochs of 6", {"all": 60, "epoch": 6}),
    Fact("data", "format", "table"),
    Fact("data", "columns", ", ".join(f"column_{i}: name_{i}" for i in range(6))),
]

TEXT = """\
Will stop the pipeline (2)
  ✗ finetune.batch_size: 128
      no batch is full
    → set it to 24
  ✗ finetune.epoch
      unknown key `finetune.epoch`

Worth knowing (1)
  · finetune.warmup: 0.0
      the first step takes the whole rate
    → 0.1

Data
  format            table
  columns           column_0: name_0, column_1: name_1, column_2: name_2,
                    column_3: name_3, column_4: name_4, column_5: name_5

Plan
  steps             about 60: 10 epochs of 6"""


def test_worst_first_then_facts() -> None:
    assert show.as_text(worst_first(FINDINGS), FACTS, colour=False) == TEXT


def test_colours_add_nothing_but_colours() -> None:
    coloured = show.as_text(worst_first(FINDINGS), FACTS, colour=True)
    assert "\x1b[31m✗\x1b[0m finetune.batch_size" in coloured
    plain = coloured
    for code in ("1", "31", "36", "0"):
        plain = plain.replace(f"\x1b[{code}m", "")
    assert plain == TEXT


def test_where_nothing_stops_that_is_said() -> None:
    text = show.as_text([], [], colour=False)
    assert text == "Nothing found that stops `dvc repro`."


def test_as_a_dict() -> None:
    found = show.as_dict(FINDINGS[1:2], FACTS[:2])
    assert found == {
        "problems": [
            {
                "level": "stops",
                "key": "finetune.batch_size",
                "value": 128,
                "problem": "no batch is full",
                "remedy": "set it to 24",
            }
        ],
        "facts": {"data": {"format": "table"}, "plan": {"steps": {"all": 60, "epoch": 6}}},
    }


def test_numbers_for_people() -> None:
    assert [about(n) for n in (0, 7, 96.4, 1_234, 1_249_999, 3.4e7, 2.26e9)] == [
        "about 0",
        "about 7",
        "about 96",
        "about 1,200",
        "about 1.2 million",
        "about 34 million",
        "about 2.3 billion",
    ]
    assert [size_of(n) for n in (12, 1_500, 2.5e6, 24e9)] == [
        "12 bytes",
        "1.5 kB",
        "2.5 MB",
        "24 GB",
    ]
