"""Bayesian knowledge tracing: a skill is known or not, and once learned never forgotten.

Corbett, Anderson, "Knowledge Tracing: Modeling the Acquisition of Procedural Knowledge", User
Modeling and User-Adapted Interaction 4, 1995. Each skill has four parameters, fitted by expectation
maximization (Baum-Welch; Rabiner, "A Tutorial on Hidden Markov Models", 1989, section III) over
its learners' sequences of answers, all skills and learners at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_shared.curriculum import Curriculum
from cloister_simulations.baselines.skill_sequences import SkillSequences
from cloister_simulations.baselines.tracing import by_history, mean_over_skills

Floats = NDArray[np.float64]
START = (0.4, 0.15, 0.2, 0.1)
"""Prior, learn, guess and slip from which the pooled parameters are fitted."""
SMALLEST, LARGEST_ERROR = 1e-3, 0.5
"""Guess and slip stay below a half: above, knowing a skill would be the worse state."""


@dataclass(frozen=True)
class BktParameters:
    """One number of each kind a skill: (skills,) each.

    ``prior``: the chance that the skill is known at its first answer; ``learn``: that it becomes
    known after an answer; ``guess``: of a right answer without it; ``slip``: of a wrong one with.
    """

    prior: Floats
    learn: Floats
    guess: Floats
    slip: Floats

    @classmethod
    def alike(cls, skills: int, values: Sequence[float]) -> "BktParameters":
        """The same four ``values`` for each of the ``skills``."""
        return cls(*(np.full(skills, value) for value in values))

    def of(self, skills: NDArray[np.int64]) -> "BktParameters":
        """Parameters of sequences that belong to ``skills``."""
        return BktParameters(*(getattr(self, field.name)[skills] for field in fields(self)))


def predict_bkt(
    train: Sequence[History],
    evaluation: Sequence[History],
    curriculum: Curriculum,
    *,
    iterations: int = 30,
    pooled_answers: float = 20.0,
) -> list[Scores]:
    """Probabilities of all answers but each learner's first.

    An answer to several skills is an answer to each of them, and is predicted by the mean of
    their predictions. See :func:`fit_bkt` for ``iterations`` and ``pooled_answers``.
    """
    parameters = fit_bkt(
        SkillSequences.of(train, len(curriculum.skills)),
        len(curriculum.skills),
        iterations=iterations,
        pooled_answers=pooled_answers,
    )
    asked = SkillSequences.of(evaluation, len(curriculum.skills))
    known = known_before(asked, parameters)
    own = parameters.of(asked.skill_of_pair)
    chances = known * (1 - own.slip) + (1 - known) * own.guess
    answers = sum(map(len, evaluation))
    return by_history(evaluation, mean_over_skills(chances, asked.answer, answers, 0.5))


def fit_bkt(
    sequences: SkillSequences, skills: int, *, iterations: int, pooled_answers: float
) -> BktParameters:
    """The parameters of each skill after so many ``iterations``.

    First one set is fitted to all skills together; then each skill its own, from there, as if it
    had ``pooled_answers`` more answers that follow the pooled set: a rare skill stays near it.
    """
    pooled = BktParameters.alike(1, START)
    together = sequences.as_one_skill()
    for _ in range(iterations):
        pooled = _maximize(expect(together, pooled), pooled, 0.0)
    shared = BktParameters.alike(skills, [getattr(pooled, one.name)[0] for one in fields(pooled)])
    own = shared
    for _ in range(iterations):
        own = _maximize(expect(sequences, own), shared, pooled_answers)
    return own


@dataclass(frozen=True)
class Expected:
    """(skills,) expected numbers: how often a thing could have happened, and how often it did."""

    first: Floats
    first_known: Floats
    unknown_before: Floats
    learned: Floats
    unknown: Floats
    guessed: Floats
    known: Floats
    slipped: Floats


def _maximize(expected: Expected, prior: BktParameters, weight: float) -> BktParameters:
    """Shares of what did happen in what could have, with ``weight`` answers of the ``prior``."""

    def share(happened: Floats, possible: Floats, before: Floats, largest: float) -> Floats:
        value = (happened + weight * before) / np.maximum(possible + weight, 1e-9)
        return np.clip(value, SMALLEST, largest)

    return BktParameters(
        share(expected.first_known, expected.first, prior.prior, 1 - SMALLEST),
        share(expected.learned, expected.unknown_before, prior.learn, 1 - SMALLEST),
        share(expected.guessed, expected.unknown, prior.guess, LARGEST_ERROR),
        share(expected.slipped, expected.known, prior.slip, LARGEST_ERROR),
    )


def known_before(sequences: SkillSequences, parameters: BktParameters) -> Floats:
    """(pairs,) the chance that the skill is known before each answer, given those before it."""
    own = parameters.of(sequences.skill)
    before = np.empty(len(sequences.answer))
    known = own.prior
    for step in sequences.steps:
        live = step.stop - step.start
        known = before[step] = known[:live]
        after = _after_answer(known, sequences.right[step], own, live)
        known = after + (1 - after) * own.learn[:live]
    return before


def _after_answer(known: Floats, right: Floats, own: BktParameters, live: int) -> Floats:
    """Bayes: the chance that the skill is known once the answer is seen."""
    if_known, if_not = _chances(right, own, live)
    joint = known * if_known
    return joint / (joint + (1 - known) * if_not)


def _chances(right: Floats, own: BktParameters, live: int) -> tuple[Floats, Floats]:
    """Chances of the answers as given, with and without the skill."""
    slip, guess = own.slip[:live], own.guess[:live]
    return np.where(right > 0, 1 - slip, slip), np.where(right > 0, guess, 1 - guess)


def expect(sequences: SkillSequences, parameters: BktParameters) -> Expected:
    """Expected numbers by skill under ``parameters``.

    The backward pass keeps the smoothed chance alone: known after answer t, given all answers, is
    known for good, so that smoothing needs no more than the filtered chances (Rauch-Tung-Striebel
    smoothing for two states, one of which is never left).
    """
    before = known_before(sequences, parameters)
    own = parameters.of(sequences.skill)
    smoothed, learned = np.empty_like(before), np.zeros_like(before)
    ahead = np.zeros(0)
    for step in reversed(sequences.steps):
        live = step.stop - step.start
        after = _after_answer(before[step], sequences.right[step], own, live)
        here = after.copy()
        going_on = len(ahead)
        if going_on:
            # Known next: known before already, or learned in between.
            next_known = after[:going_on] + (1 - after[:going_on]) * own.learn[:going_on]
            here[:going_on] = ahead * after[:going_on] / next_known
            learned[step][:going_on] = ahead - here[:going_on]
        smoothed[step] = ahead = here
    return _sum_by_skill(sequences, smoothed, learned, len(parameters.prior))


def _sum_by_skill(
    sequences: SkillSequences, known: Floats, learned: Floats, skills: int
) -> Expected:
    of_pair, right = sequences.skill_of_pair, sequences.right

    def total(values: Floats) -> Floats:
        return np.bincount(of_pair, weights=values, minlength=skills).astype(np.float64)

    firsts = np.arange(len(of_pair)) < len(sequences.skill)
    return Expected(
        first=total(firsts.astype(float)),
        first_known=total(known * firsts),
        unknown_before=total((1 - known) * sequences.goes_on),
        learned=total(learned),
        unknown=total(1 - known),
        guessed=total((1 - known) * right),
        known=total(known),
        slipped=total(known * (1 - right)),
    )
