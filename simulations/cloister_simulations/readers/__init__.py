"""Readers of data sets by name; each takes the data set's own folder and gives a ``Dataset``."""

from collections.abc import Callable
from pathlib import Path

from cloister_simulations.dataset import Dataset
from cloister_simulations.readers import (
    assistments2009,
    assistments2015,
    assistments2017,
    tidy_csv,
)

READERS: dict[str, Callable[[Path], Dataset]] = {
    "assistments2009": assistments2009.read,
    "assistments2015": assistments2015.read,
    "assistments2017": assistments2017.read,
    "tidy_csv": tidy_csv.read,
}

__all__ = ["READERS"]
