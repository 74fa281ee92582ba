"""What validate says: what it saw of the source, what is worth a warning, why it stops."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.pairs import REJECTED_FILE
from pipeline.data.sources.batches import Source
from pipeline.validation.docs import figure
from pipeline.validation.expectations import limit_key

DOCS_FILE = "data_docs.html"
_INDENT = "\n       "

Check = Mapping[str, Any]


def source_line(source: Source) -> str:
    """What is read and how, in a line."""
    columns = ", ".join(
        f"{field}={column}{' (guessed)' if field in source.guessed else ''}"
        for field, column in source.columns.items()
    )
    return "; ".join([f"format {source.format}: {files_of(source)}: {columns}", *source.notes])


def files_of(source: Source) -> str:
    """The name of the file that holds the captions, and how many more there are."""
    first, *others = (file.name for file in source.files)
    return f"{first} and {len(others):,} more" if others else first


def warning_line(check: Check) -> str:
    """What was expected, what was seen, and whose limit it is."""
    return f"warning: {_above(check, 'warn')}"


def stop_message(
    checks: Sequence[Check], *, source: Source, reasons: Mapping[str, int], failed: Path
) -> str:
    """Each check that stops, with rows that show it, and where all of them are listed.

    Where nothing is left, all else follows from that and is not said.
    """
    stopped = {check["name"]: check for check in checks if check["status"] == "stopped"}
    counts = ", ".join(f"{name} {count:,}" for name, count in _ranked(reasons))
    if "accepted" in stopped:
        first = next(check["examples"] for check in checks if check["name"] == "rejected")
        parts = [_told(f"no row is left ({counts}). The first:", first)]
    else:
        parts = [
            _told(
                f"{_above(check, 'stop')}{f' ({counts})' if name == 'rejected' else ''}: "
                f"{check['expectation']} does not hold"
                + (". The first:" * bool(check["examples"])),
                check["examples"],
            )
            for name, check in stopped.items()
        ]
    lines = [f"{files_of(source)}: {part}" for part in parts]
    where = (
        f"All that was found is in {failed / 'quality' / DOCS_FILE}, each rejected row in "
        f"{failed / REJECTED_FILE}: mend the data, or change the limit in params.yaml"
    )
    return _INDENT.join([*lines, where])


def _above(check: Check, limit: str) -> str:
    return (
        f"{check['about']}: {figure(check['observed'])}, above {limit_key(check['name'])}.{limit}: "
        f"{check[limit]:g}"
    )


def _told(line: str, examples: Sequence[Mapping[str, Any]]) -> str:
    return _INDENT.join([line, *(f"  row {e['source_row']}: {e['value']}" for e in examples)])


def _ranked(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
