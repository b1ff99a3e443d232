"""File formats by name, for ``cloister node import FILE --format NAME``."""

from collections.abc import Callable, Iterator
from pathlib import Path

from cloister_client.histories import Interaction
from cloister_client.importing.assistments import read_assistments
from cloister_client.importing.csv_table import ColumnMap, read_csv
from cloister_client.importing.tally import Tally
from cloister_shared.errors import ConfigError

FormatReader = Callable[[Path, ColumnMap | None, Tally], Iterator[Interaction]]


def _csv(path: Path, columns: ColumnMap | None, tally: Tally) -> Iterator[Interaction]:
    if columns is None:
        raise ConfigError(
            "the format 'csv' needs to be told the columns: learner, item and correct at least"
        )
    return read_csv(path, columns, tally)


def _assistments(path: Path, columns: ColumnMap | None, tally: Tally) -> Iterator[Interaction]:
    if columns is not None:
        raise ConfigError("the format 'assistments' has fixed columns: leave the column names out")
    return read_assistments(path, tally)


FORMATS: dict[str, FormatReader] = {"assistments": _assistments, "csv": _csv}


def read(
    path: Path, format: str, columns: ColumnMap | None = None, tally: Tally | None = None
) -> Iterator[Interaction]:
    """The interactions of a file in the named format; ``tally`` counts while they are drawn.

    An unknown format or missing columns are a ``ConfigError`` at once, a bad file is a
    ``DataError`` when the row is reached. Ids are not looked up: the curriculum does that.
    """
    if format not in FORMATS:
        raise ConfigError(f"no file format is called {format!r}; known: {', '.join(FORMATS)}")
    return FORMATS[format](path, columns, tally or Tally())
