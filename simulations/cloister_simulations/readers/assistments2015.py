"""ASSISTments 2015 with pyKT's own folds (Liu et al., NeurIPS 2022, datasets track)."""

from pathlib import Path

from cloister_simulations.dataset import Dataset
from cloister_simulations.readers import pykt


def read(directory: Path) -> Dataset:
    """The data set in ``directory``, in :mod:`pykt`'s lists.

    The data set has no problems, so every skill is an item of its own. pyKT left out learners
    with fewer than 3 answers.
    """
    return pykt.read(directory, "assistments2015")
