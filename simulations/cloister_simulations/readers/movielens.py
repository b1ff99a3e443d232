"""MovieLens 100K and 1M (Harper and Konstan, ACM TiiS 5(4), 2015).

Films, not lessons: the data set on which federated recommenders are compared.
"""

from collections.abc import Callable
from pathlib import Path

from cloister_simulations.dataset import Dataset
from cloister_simulations.readers.answer_table import (
    checked_answers,
    learner_records,
    positions,
    published_curriculum,
    published_file,
    read_table,
    refuse_lines,
    whole_numbers,
)

Reader = Callable[[Path], Dataset]
LIKED = 4
"""The rating, of 5, from which on a film counts as liked."""
_COLUMNS = {name: name for name in ("learner", "item", "rating", "when")}


def read_100k(directory: Path) -> Dataset:
    """MovieLens 100K in ``directory``: ``u.data``, cells separated by tabs."""
    return _read(published_file(directory, "u.data"), "movielens100k", sep="\t")


def read_1m(directory: Path) -> Dataset:
    """MovieLens 1M in ``directory``: ``ratings.dat``, cells separated by ``::``."""
    return _read(published_file(directory, "ratings.dat"), "movielens1m", sep="::", engine="python")


def _read(path: Path, name: str, **form: str) -> Dataset:
    """An interaction is a rating, right if the film was liked; learners' ratings in order of time.

    Every film is an item and a skill of its own. There are no institutions and no folds.
    """
    table = read_table(path, _COLUMNS, header=None, names=list(_COLUMNS), index_col=False, **form)
    ratings = whole_numbers(path, table, "rating")
    refuse_lines(path, ~ratings.between(1, 5), "the rating is not from 1 to 5")
    table = table.assign(
        correct=(ratings >= LIKED).astype("float32"),
        skill=table["item"],
        when=whole_numbers(path, table, "when"),
    )
    table = checked_answers(path, table).sort_values("when", kind="stable")
    items = positions(table["item"])
    return Dataset(
        name, published_curriculum(name, table), learner_records(table, items, items[:, None])
    )
