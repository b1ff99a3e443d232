"""Readers of data sets by name; each takes the data set's own folder and gives a ``Dataset``."""

from collections.abc import Callable
from pathlib import Path

from cloister_simulations.dataset import Dataset
from cloister_simulations.readers import (
    assistments2009,
    assistments2015,
    assistments2017,
    assistments2017_original,
    mooccubex,
    movielens,
    oulad,
    pykt,
    tidy_csv,
)

READERS: dict[str, Callable[[Path], Dataset]] = {
    "assistments2009": assistments2009.read,
    "assistments2015": assistments2015.read,
    "assistments2017": assistments2017.read,
    "assistments2017_original": assistments2017_original.read,
    "mooccubex": mooccubex.read,
    "movielens100k": movielens.read_100k,
    "movielens1m": movielens.read_1m,
    "oulad": oulad.read,
    "pykt": pykt.read,
    "table": tidy_csv.read,
}

__all__ = ["READERS"]
