"""The attack finds a model that knows its learners by heart, and is right about how sure it is."""

import math

import numpy as np
import pytest

from cloister_client.audit.membership import (
    CONFIDENCE,
    Candidate,
    MembershipReport,
    attack_model,
    ceiling,
    learner_loss,
)
from cloister_client.histories import History, MemoryHistorySource
from cloister_client.models import Scores
from cloister_shared.model_specs import Weights
from cloister_shared.privacy import Budget

from ..memorized import CURRICULUM, DKT, LEARNERS, coin_answers, trained

BUDGET = Budget(epsilon=4.0, delta=1e-6)
HISTORIES = {
    f"learner {n}": History.from_interactions(coin_answers(f"learner {n}", n), CURRICULUM)
    for n in range(LEARNERS)
}
ROLES = dict.fromkeys(list(HISTORIES)[LEARNERS // 2 :], "evaluation")
SOURCE = MemoryHistorySource(HISTORIES, ROLES)
UNTRAINED = Candidate("untrained", DKT, DKT.initial_weights(CURRICULUM, 0))


def attacked(weights: Weights, source: MemoryHistorySource = SOURCE) -> MembershipReport:
    return attack_model(Candidate("it", DKT, weights), UNTRAINED, source, BUDGET)


@pytest.fixture(scope="module")
def memorized() -> Weights:
    return trained(SOURCE, DKT, by_heart=True)


def test_a_model_that_knows_its_learners_by_heart_is_found_out(memorized):
    report = attacked(memorized)
    assert (report.trained, report.others) == (LEARNERS // 2, LEARNERS // 2)
    assert [attack.name for attack in report.attacks] == ["loss", "calibrated"]
    for attack in report.attacks:
        assert attack.advantage > 0.9
        assert attack.recognized > 0.9
    assert report.lower_bound > 0.5


def test_nothing_is_proved_of_a_private_model():
    report = attacked(trained(SOURCE, DKT, by_heart=False))
    assert report.lower_bound < 0.25
    assert report.lower_bound < report.ceiling


def test_the_reference_takes_away_what_is_easy_about_learners(memorized):
    """Against itself a model tells nothing, however well it knows whom."""
    itself = Candidate("it", DKT, memorized)
    loss, calibrated = attack_model(itself, itself, SOURCE, BUDGET).attacks
    assert loss.lower_bound > 0.5
    assert (calibrated.advantage, calibrated.lower_bound) == (0.0, 0.0)


def test_the_bound_exceeds_the_truth_as_rarely_as_is_said():
    """Of a model that was trained on nobody the true advantage is zero."""
    wrong = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        roles = {name: "evaluation" for name in HISTORIES if random.random() < 0.5}
        source = MemoryHistorySource(HISTORIES, roles)
        wrong += attacked(UNTRAINED.weights, source).lower_bound > 0
    assert wrong <= (1 - CONFIDENCE) * 40 + 3


@pytest.mark.parametrize("roles", [{}, dict.fromkeys(HISTORIES, "evaluation")])
def test_where_there_is_nobody_to_compare_with_nothing_is_claimed(roles):
    report = attacked(UNTRAINED.weights, MemoryHistorySource(HISTORIES, roles))
    assert (report.attacks, report.lower_bound) == ((), 0.0)


def test_learners_of_whom_nothing_is_predicted_do_not_count(memorized):
    histories = {**HISTORIES, "new": History.empty(), "once": HISTORIES["learner 1"][:1]}
    assert attacked(memorized, MemoryHistorySource(histories, ROLES)) == attacked(memorized)


def test_a_loss_is_that_of_the_outcome_and_hostile_numbers_are_as_wrong_as_can_be():
    right = Scores(np.array([1.0, 0.0]), np.array([0.5, 0.75]))
    assert learner_loss("binary", right) == pytest.approx(math.log(2) * 1.5)
    ranks = Scores(np.ones(2), np.array([1.0, 4.0]))
    assert learner_loss("rank", ranks) == pytest.approx(math.log(4) / 2)
    broken = Scores(np.array([1.0]), np.array([math.nan]))
    assert learner_loss("binary", broken) == pytest.approx(math.log(1e7))
    assert math.isnan(learner_loss("rank", Scores(np.zeros(0), np.zeros(0))))


def test_the_ceiling_is_where_both_kinds_of_error_are_as_small_as_epsilon_and_delta_allow():
    for epsilon, delta in ((0.5, 1e-6), (4.0, 1e-2)):
        error = (1 - delta) / (1 + math.exp(epsilon))
        assert ceiling(Budget(epsilon=epsilon, delta=delta)) == pytest.approx(1 - 2 * error)
