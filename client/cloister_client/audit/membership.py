"""Can it be told from a model who was trained on? An attack with this node's own learners.

Learners of the train role are told from those of the evaluation role, on whom nobody ever trained,
by a threshold on what the model loses on them (Yeom, Giacomelli, Fredrikson, Jha, "Privacy Risk in
Machine Learning", CSF 2018), and by a threshold on how much less that is than under a reference
model, as some learners are easier to predict than others (Watson, Guo, Cormode, Sablayrolles, "On
the Importance of Difficulty Calibration in Membership Inference Attacks", ICLR 2022).

What is found is made of learners' records without any noise: it stays at the node.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History, HistorySource, Purpose
from cloister_client.models import Scores, model_kind
from cloister_shared.frozen import Frozen
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.histograms import Outcome

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
"""How often the true advantages of all attacks on a model are at least their lower bounds."""
LOW_RATE = 0.01
"""A rate of false accusations at which an attack is worth something to an attacker."""
MOST = 1000
"""Learners of each role that are looked at, those who enrolled first."""
_AT_ONCE = 200
_SURELY_WRONG = 1e-7


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to attack, or to compare with; ``name`` is what a report calls it."""

    name: str
    spec: ModelSpec
    weights: Weights


class Attack(Frozen):
    """What one attack found.

    ``advantage`` is the largest difference, over thresholds, between the share of trained learners
    who are recognized and of others who are accused. With :data:`CONFIDENCE` it is at least
    ``lower_bound`` for all learners like these, too. ``recognized`` is the share at a threshold
    that accuses no more than one of a hundred others (Carlini et al., "Membership Inference
    Attacks From First Principles", 2022, section IV).
    """

    name: Literal["loss", "calibrated"]
    advantage: float
    lower_bound: float
    recognized: float


class MembershipReport(Frozen):
    """The attacks on one model; none where nobody could be compared with anybody.

    ``trained`` and ``others`` are how many learners of either role were looked at; ``ceiling`` is
    the advantage that the node's (ε, δ) allows at most.
    """

    kind: str
    version: str
    reference: str
    trained: int
    others: int
    attacks: tuple[Attack, ...]
    ceiling: float

    @property
    def lower_bound(self) -> float:
        """What the best attack surely gains."""
        return max((attack.lower_bound for attack in self.attacks), default=0.0)


def attack_model(
    model: Candidate, reference: Candidate, source: HistorySource, budget: Budget
) -> MembershipReport:
    """Attack ``model`` with the learners of ``source``; who opted out is not read.

    ``reference`` is another model of the same kind: an earlier one, or one that is not trained.
    """
    trained = _losses(model, reference, source, "train")
    others = _losses(model, reference, source, "evaluate")
    names: tuple[Literal["loss", "calibrated"], ...] = ("loss", "calibrated")
    found = (
        _attack(name, trained[row], others[row], (1 - CONFIDENCE) / len(names))
        for row, name in enumerate(names)
    )
    return MembershipReport(
        kind=model.spec.kind,
        version=model.name,
        reference=reference.name,
        trained=trained.shape[1],
        others=others.shape[1],
        attacks=tuple(found) if trained.shape[1] and others.shape[1] else (),
        ceiling=ceiling(budget),
    )


def ceiling(budget: Budget) -> float:
    """The largest advantage against one learner under (ε, δ): (e^ε - 1 + 2δ) / (e^ε + 1).

    Where the lines TPR ≤ e^ε·FPR + δ and 1 - FPR ≤ e^ε·(1 - TPR) + δ meet: Kairouz, Oh, Viswanath,
    "The Composition Theorem for Differential Privacy", 2015, theorem 2.1.
    """
    return math.tanh(budget.epsilon / 2) + 2 * budget.delta / (math.exp(budget.epsilon) + 1)


def learner_loss(outcome: Outcome, scores: Scores) -> float:
    """What a model loses on one learner: mean log-loss, or mean logarithm of the true items' rank.

    NaN for a learner of whom nothing is predicted.
    """
    if not len(scores.targets):
        return math.nan
    if outcome == "rank":
        return float(np.log(scores.outputs).mean())
    told = np.where(scores.targets > 0.5, scores.outputs, 1 - scores.outputs)
    # No number, as hostile weights may give, is as wrong as can be.
    return float(-np.log(np.nan_to_num(told, nan=0.0).clip(_SURELY_WRONG)).mean())


def _losses(
    model: Candidate, reference: Candidate, source: HistorySource, purpose: Purpose
) -> Floats:
    """(2, learners) losses, and by how much they are above those under the reference."""
    learners = source.learners(purpose)[:MOST]
    parts = [np.zeros((2, 0))]
    for start in range(0, len(learners), _AT_ONCE):
        histories = source.load(learners[start : start + _AT_ONCE], purpose)
        parts.append(np.array([_losses_of(one, histories) for one in (model, reference)]))
    both = np.concatenate(parts, axis=1)
    own, under_reference = both[:, ~np.isnan(both).any(axis=0)]
    return np.stack([own, own - under_reference])


def _losses_of(model: Candidate, histories: Sequence[History]) -> list[float]:
    scores = model_kind(model.spec).score(model.spec, model.weights, histories)
    return [learner_loss(model.spec.outcome, one) for one in scores]


def _attack(
    name: Literal["loss", "calibrated"], trained: Floats, others: Floats, error: float
) -> Attack:
    """Accuse whoever loses no more than a threshold; all thresholds are tried.

    The bound allows for the best of them having been chosen with the same learners: each of the two
    distributions is nowhere further off than Massart 1990 says ("The Tight Constant in the
    Dvoretzky-Kiefer-Wolfowitz Inequality", theorem 1), but with half of ``error``.
    """
    thresholds = np.concatenate([trained, others])
    recognized = np.searchsorted(np.sort(trained), thresholds, side="right") / len(trained)
    accused = np.searchsorted(np.sort(others), thresholds, side="right") / len(others)
    advantage = max(0.0, float((recognized - accused).max()))
    slack = sum(math.sqrt(math.log(2 / error) / (2 * len(some))) for some in (trained, others))
    return Attack(
        name=name,
        advantage=advantage,
        lower_bound=max(0.0, advantage - slack),
        recognized=float(recognized[accused <= LOW_RATE].max(initial=0.0)),
    )
