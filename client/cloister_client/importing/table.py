"""Rows of a CSV file, plain or gzip; every way in which a file can be broken is one sentence."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO

from cloister_shared.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
SEPARATORS = ",;\t"


class Row(NamedTuple):
    """The number of a row's last line in the file, from 1, and the cells that were asked for."""

    line: int
    cells: list[str]


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The cells of ``columns``, stripped of white space, of each row that is not blank.

    The text is UTF-8 with or without a byte order mark; gzip is told by its first bytes, the
    separator (comma, semicolon or tab) by the header. Any fault of the file is a ``DataError``,
    also one that shows only after rows were given: whoever stores rows does it in one transaction.
    """
    with _faults_named(path), path.open("rb") as raw:
        packed = raw.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
        with io.TextIOWrapper(
            gzip.GzipFile(fileobj=raw) if packed else raw, encoding="utf-8-sig", newline=""
        ) as text:
            yield from _selected(path, text, columns)


def bad_line(path: Path, line: int, what: str) -> DataError:
    """The error for one line; it names the line, never what stands in it."""
    return DataError(f"{path.name}, line {line}: {what}")


def _selected(path: Path, text: TextIO, columns: Sequence[str]) -> Iterator[Row]:
    first = text.readline()
    reader = csv.reader(chain([first], text), delimiter=_separator(first, columns))
    header = [name.strip() for name in next(reader, [])]
    positions = _positions(path, header, columns)
    found = False
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        found = True
        if len(cells) != len(header):
            raise bad_line(
                path, reader.line_num, f"found {len(cells)} cells, the header has {len(header)}"
            )
        yield Row(reader.line_num, [cells[position].strip() for position in positions])
    if not found:
        raise DataError(f"{path.name} holds a header and no rows: was the right file exported?")


def _separator(header: str, columns: Sequence[str]) -> str:
    """The separator under which most of ``columns`` stand in the header; a comma if none does."""

    def known(separator: str) -> int:
        names = {name.strip() for name in next(csv.reader([header], delimiter=separator), [])}
        return len(names.intersection(columns))

    return max(SEPARATORS, key=known)


def _positions(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    if not header:
        raise DataError(f"{path.name} is empty: expected a header with {', '.join(columns)}")
    missing = [name for name in columns if name not in header]
    if len(missing) == len(columns):
        # Without a header the first line is somebody's answer, so it is not shown.
        raise DataError(
            f"the first line of {path.name} names none of the columns {', '.join(columns)}; "
            "it must be a header whose names are separated by commas, semicolons or tabs"
        )
    if missing:
        raise DataError(
            f"{path.name} lacks the column {', '.join(missing)}; found: {', '.join(header)}"
        )
    twice = [name for name in dict.fromkeys(columns) if header.count(name) > 1]
    if twice:
        raise DataError(
            f"{path.name} has the column {', '.join(twice)} twice: rename one, so that it is clear "
            "which is meant"
        )
    return [header.index(name) for name in columns]


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    """Turn what reading can raise into a ``DataError`` that says what to do."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path.name} is a damaged gzip file: fetch or export it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text: export it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path.name} is not a CSV table: {error}") from error
