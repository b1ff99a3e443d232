"""Who lives where: every learner of a data set gets exactly one institution."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cloister_client.histories import History
from cloister_shared.errors import DataError
from cloister_shared.frozen import Frozen
from cloister_simulations.dataset import Dataset, LearnerRecord

LEVELS = 10
"""Classes of equal size into which learners are put by their share of right answers."""

Ints = NDArray[np.int64]
Homes = dict[str, list[LearnerRecord]]


class ByInstitution(Frozen):
    """The data set's own institutions; learners without one are dropped or a ``DataError``.

    So are those of an institution that has fewer than ``fewest_learners``.
    """

    by: Literal["institution"]
    without_institution: Literal["drop", "refuse"] = "refuse"
    fewest_learners: int = Field(default=1, ge=1)


class AtRandom(Frozen):
    """``institutions`` of the same size, give or take one, and alike."""

    by: Literal["random"]
    institutions: int = Field(ge=1)
    seed: int = Field(default=1, ge=0)


class ByDirichlet(Frozen):
    """``institutions`` that differ in their learners' level or main skill, and in size.

    Learners are put into classes by ``trait``; a class is spread over the institutions by shares
    drawn from a Dirichlet distribution around the institutions' sizes (Hsu, Qi, Brown,
    "Measuring the Effects of Non-Identical Data Distribution", 2019, section 3). A small
    ``concentration`` makes them differ more. A small ``size_concentration`` makes the sizes
    differ more; None makes them equal in the mean.
    """

    by: Literal["dirichlet"]
    institutions: int = Field(ge=1)
    trait: Literal["level", "main_skill"] = "level"
    concentration: float = Field(default=1.0, gt=0)
    size_concentration: float | None = Field(default=None, gt=0)
    seed: int = Field(default=1, ge=0)


PartitionConfig = Annotated[ByInstitution | AtRandom | ByDirichlet, Field(discriminator="by")]


def partition(dataset: Dataset, config: PartitionConfig) -> Homes:
    """The learners of each institution by name; no institution is empty, no learner in two.

    A ``DataError`` if the data set has too few learners, or none with an institution.
    """
    if isinstance(config, ByInstitution):
        return _by_institution(dataset, config)
    if len(dataset.learners) < config.institutions:
        raise DataError(
            f"{config.institutions} institutions were asked for, "
            f"{dataset.name!r} has {len(dataset.learners)} learners"
        )
    random = np.random.default_rng(config.seed)
    if isinstance(config, AtRandom):
        places = random.permutation(len(dataset.learners)) % config.institutions
    else:
        places = _fill_empty(
            _dirichlet_places(dataset.learners, config, random), config.institutions
        )
    return _named(dataset.learners, places, config.institutions)


def _by_institution(dataset: Dataset, config: ByInstitution) -> Homes:
    homes: Homes = {}
    for learner in dataset.learners:
        if learner.institution is not None:
            homes.setdefault(learner.institution, []).append(learner)
    homes = {name: own for name, own in homes.items() if len(own) >= config.fewest_learners}
    homeless = len(dataset.learners) - sum(map(len, homes.values()))
    if not homes or (homeless and config.without_institution == "refuse"):
        raise DataError(
            f"{homeless} of the {len(dataset.learners)} learners of {dataset.name!r} have no "
            f"institution of {config.fewest_learners} or more: drop them (without_institution: "
            "drop) or partition in another way"
        )
    return dict(sorted(homes.items()))


def _named(learners: Sequence[LearnerRecord], places: Ints, institutions: int) -> Homes:
    """Learners by institution, in the data set's order; names sort as the numbers do."""
    width = len(str(institutions))
    names = [f"institution-{number:0{width}}" for number in range(1, institutions + 1)]
    homes: Homes = {name: [] for name in names}
    for learner, place in zip(learners, places, strict=True):
        homes[names[place]].append(learner)
    return homes


def _dirichlet_places(
    learners: Sequence[LearnerRecord], config: ByDirichlet, random: np.random.Generator
) -> Ints:
    """(learners,) institution of each: one draw of shares for each class of learners."""
    sizes = np.full(config.institutions, 1 / config.institutions)
    if config.size_concentration is not None:
        sizes = random.dirichlet(np.full(config.institutions, config.size_concentration))
    trait = _levels if config.trait == "level" else _main_skills
    classes = trait([learner.history for learner in learners])
    # numpy takes no parameter of 0, to which a tiny share may round.
    around = np.maximum(config.concentration * config.institutions * sizes, 1e-9)
    places = np.empty(len(learners), dtype=np.int64)
    for one in np.unique(classes):
        members = np.flatnonzero(classes == one)
        places[members] = random.choice(
            config.institutions, len(members), p=random.dirichlet(around)
        )
    return places


def _fill_empty(places: Ints, institutions: int) -> Ints:
    """Each institution that would stay empty takes the first learner of the largest one."""
    filled = places.copy()
    for empty in np.setdiff1d(np.arange(institutions), places):
        largest = np.bincount(filled, minlength=institutions).argmax()
        filled[np.flatnonzero(filled == largest)[0]] = empty
    return filled


def _levels(histories: Sequence[History]) -> Ints:
    """(histories,) class 0 to ``LEVELS`` - 1 by the rank of the share of right answers."""
    shares = [history.correct.mean() if len(history) else 0.5 for history in histories]
    ranks = np.argsort(np.argsort(shares, kind="stable"), kind="stable")
    return np.asarray(ranks * LEVELS // len(histories), dtype=np.int64)


def _main_skills(histories: Sequence[History]) -> Ints:
    """(histories,) the skill with most answers of each, the lower of equals; -1 without answers."""
    return np.array(
        [
            np.bincount(history.skills[history.skills >= 0]).argmax() if len(history) else -1
            for history in histories
        ]
    )
