"""Records of a CSV, where a quote that nothing closes costs its own line alone.

A quote that opens a field takes in all up to the next one, line ends too: left to itself, Python's
reader makes one field of the rest of the file. A quote is taken for a mistake where the next one
closes no field, where there is none within the limits, and where a line that it takes in is a row
itself: with as many fields as the first line, one of which names an image. Then each line is a
record of its own, but the last, with which another record may begin.
"""

import csv
from collections.abc import Iterator

from pipeline.data.sources.rows import BadRow, is_image

MAX_RECORD = 16_000_000
"""Characters of all lines of a record."""

_REMEDY = "write a quote inside a quoted field twice, and close each"


class _Lines:
    """Lines with their numbers; those of the record that is being read can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: list[str] = []
        self._characters = 0
        self.record: list[str] = []
        self.number = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._characters > MAX_RECORD:
            raise csv.Error(f"more than {MAX_RECORD} characters")
        line = self._again.pop() if self._again else next(self._lines)
        self.number += 1
        self._characters += len(line)
        self.record.append(line)
        return line

    def begin(self) -> None:
        """A record begins with the next line."""
        self.record = []
        self._characters = 0

    def give_back_last(self) -> None:
        """The last line is read again."""
        self._again.append(self.record.pop())
        self.number -= 1


def records(lines: Iterator[str], *, delimiter: str) -> Iterator[list[str] | BadRow]:
    """The fields of each record, or what is wrong with it; empty lines are none."""
    source = _Lines(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    width: int | None = None
    while True:
        source.begin()
        try:
            found: list[list[str] | BadRow] = [next(reader)]
            if len(source.record) > 1 and _took_in_rows(source.record[1:], delimiter, width):
                found = _apart(source, delimiter)
        except StopIteration:
            return
        except csv.Error:
            found = _apart(source, delimiter)
        for row in found:
            if row:
                width = len(row) if width is None and isinstance(row, list) else width
                yield row


def _apart(source: _Lines, delimiter: str) -> list[list[str] | BadRow]:
    """Each line of a broken record by itself; the last is given back, unless it is the only one."""
    first, last = source.number - len(source.record) + 1, source.number
    if len(source.record) > 1:
        source.give_back_last()
    found: list[list[str] | BadRow] = []
    for number, line in enumerate(source.record, start=first):
        row = _alone(line, delimiter)
        by = f" in it, nor as it should be by line {last}" if last > number else ""
        found.append(
            row if isinstance(row, list) else BadRow(f"line {number}: {row}{by}: {_REMEDY}")
        )
    return found


def _alone(line: str, delimiter: str) -> list[str] | str:
    """The fields of a line by itself, or what is wrong with it."""
    try:
        rows = list(csv.reader([line, "\n"], delimiter=delimiter))
    except csv.Error as error:
        return str(error)
    return rows[0] if len(rows) == 2 else "a quote opens and is not closed"


def _took_in_rows(lines: list[str], delimiter: str, width: int | None) -> bool:
    """Whether one of the lines is a row itself."""
    rows = (_alone(line, delimiter) for line in lines)
    return any(
        isinstance(row, list) and len(row) == width and any(map(is_image, row)) for row in rows
    )
