"""Exact figures on evaluation learners, over all of them and by institution."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_client.models import Scores, model_kind
from cloister_shared.model_specs import SPECS, ModelSpec, Weights
from cloister_simulations.evaluation import Evaluator, calibration
from cloister_simulations.synthetic import SyntheticSchools, generate


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    dataset = generate(SyntheticSchools(skills=3, items_per_skill=3, answers_per_learner=15), 1)
    learners = dataset.learners[:60:2] + dataset.learners[-60::2]
    return Evaluator([one.history for one in learners], [one.institution or "" for one in learners])


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    curriculum = generate(SyntheticSchools(skills=3, items_per_skill=3), 1).curriculum
    return SPECS.get("dkt").for_curriculum(curriculum, {"hidden": 4})


@pytest.fixture(scope="module")
def weights(spec: ModelSpec) -> Weights:
    random = np.random.default_rng(2)
    return {
        name: random.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in spec.shapes().items()
    }


def known(history: History, values: NDArray[np.float64]) -> Scores:
    """Scores of every answer of a history but the first."""
    return Scores(targets=history.correct[1:].astype(np.float64), outputs=values)


def test_who_knows_every_answer_has_an_auc_of_one(evaluator: Evaluator, spec: ModelSpec) -> None:
    scores = [
        known(history, np.clip(history.correct[1:], 0.1, 0.9)) for history in evaluator.histories
    ]
    figures = evaluator.figures(spec, scores)
    assert (figures.all["auc"], figures.all["accuracy"]) == (1.0, 1.0)
    assert figures.by_institution.keys() == {"lakeview", "oakfield"}


def test_who_says_always_the_same_has_an_auc_of_a_half(
    evaluator: Evaluator, spec: ModelSpec
) -> None:
    scores = [known(one, np.full(len(one) - 1, 0.7)) for one in evaluator.histories]
    figures = evaluator.figures(spec, scores)
    assert figures.all["auc"] == 0.5
    right = np.concatenate([one.correct[1:] for one in evaluator.histories]).mean()
    assert figures.all["accuracy"] == pytest.approx(right)


def test_of_each_history_only_the_last_prediction_counts_where_that_is_asked(
    evaluator: Evaluator, spec: ModelSpec
) -> None:
    def right_at_the_end(history: History) -> Scores:
        wrong = 1 - history.correct[1:].astype(np.float64)
        return known(history, np.append(wrong[:-1], history.correct[-1:]))

    scores = [right_at_the_end(one) for one in evaluator.histories]
    assert evaluator.figures(spec, scores).all["accuracy"] < 0.2
    last = Evaluator(evaluator.histories, evaluator.institutions, "last")
    assert last.figures(spec, scores).all["accuracy"] == 1
    assert last.figures(spec, [Scores(np.zeros(0), np.zeros(0)) for _ in scores]).all["auc"] is None


def test_one_model_for_all_is_as_good_as_the_same_model_at_each(
    evaluator: Evaluator, spec: ModelSpec, weights: Weights
) -> None:
    together = evaluator.shared(spec, weights)
    apart = evaluator.own(spec, dict.fromkeys(evaluator.institutions, weights))
    for name, value in together.all.items():
        assert apart.all[name] == pytest.approx(value, abs=1e-6)


def test_each_institution_is_judged_by_its_own_model(
    evaluator: Evaluator, spec: ModelSpec, weights: Weights
) -> None:
    other = {name: -array for name, array in weights.items()}
    own = evaluator.own(spec, {"oakfield": weights, "lakeview": other})
    for name, used in (("oakfield", weights), ("lakeview", other)):
        expected = evaluator.shared(spec, used).by_institution[name]["auc"]
        assert own.by_institution[name]["auc"] == pytest.approx(expected, abs=1e-6)


def test_evaluation_scores_histories_in_their_order(
    evaluator: Evaluator, spec: ModelSpec, weights: Weights
) -> None:
    scores = model_kind(spec).score(spec, weights, evaluator.histories)
    labels = [one.correct[1:] for one in evaluator.histories]
    for score, label in zip(scores, labels, strict=True):
        assert np.array_equal(score.targets, label)


def test_calibration_is_told_on_average_and_bin_by_bin():
    scores = Scores(np.array([1.0, 0, 1, 1]), np.array([0.1, 0.1, 0.9, 0.9]))
    found = calibration(scores)
    assert found["calibration_gap"] == pytest.approx(-0.25)
    assert found["calibration_error"] == pytest.approx((0.4 + 0.1) / 2)
    for broken in (Scores(np.zeros(0), np.zeros(0)), Scores(np.ones(1), np.array([np.nan]))):
        assert np.isnan(list(calibration(broken).values())).all()


def test_groups_have_figures_of_their_own_and_change_no_other(evaluator, spec, weights):
    groups = ["A" if number % 3 else None for number in range(len(evaluator.histories))]
    grouped = Evaluator(evaluator.histories, evaluator.institutions, groups=groups)
    found, plain = grouped.shared(spec, weights), evaluator.shared(spec, weights)
    assert (found.all, found.by_institution) == (plain.all, plain.by_institution)
    alone = [one for one, group in zip(evaluator.histories, groups, strict=True) if group == "A"]
    assert found.by_group["A"] == Evaluator(alone, ["x"] * len(alone)).shared(spec, weights).all
    assert found.by_group.keys() == {"A", "other"}
