"""Figures of noisy sums know their noise, group by group and bin by bin."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from cloister_shared.privacy.figures import (
    ABOVE_ALL,
    OTHER,
    PrivateFigure,
    breakdown,
    private_figures,
)
from cloister_shared.privacy.histograms import Floats, Outcome, learner_histogram

NAMES: dict[Outcome, set[str]] = {
    "binary": {"auc", "log_loss", "calibration_gap", "calibration_error"},
    "rank": {"hr@10", "ndcg@10"},
}


def population(learners: int, seed: int = 1) -> tuple[list[Floats], list[Floats]]:
    """Labels and calibrated probabilities of so many learners, 30 predictions each."""
    random = np.random.default_rng(seed)
    chances = [random.beta(2, 1.5, 30) for _ in range(learners)]
    return [(random.random(30) < one).astype(float) for one in chances], chances


def summed(labels: list[Floats], chances: list[Floats], bins: int) -> Floats:
    pairs = zip(labels, chances, strict=True)
    return np.sum([learner_histogram("binary", *pair, bins) for pair in pairs], axis=0)


def test_without_noise_the_figures_are_those_of_the_predictions_up_to_the_bins():
    labels, chances = np.tile([0.0, 1, 1, 0, 1, 1], 50), np.linspace(0.01, 0.99, 300)
    histogram = learner_histogram("binary", labels, chances, bins=1000)
    found = private_figures(histogram, "binary", 0.0)
    binned = (np.floor(chances * 1000) + 0.5) / 1000
    assert found["auc"].value == pytest.approx(roc_auc_score(labels, binned))
    assert found["log_loss"].value == pytest.approx(log_loss(labels, binned))
    assert found["calibration_gap"].value == pytest.approx(binned.mean() - labels.mean())
    assert all(one.noise_deviation < 1e-12 for one in found.values())


def test_without_noise_ranks_are_counted_exactly_and_half_ranks_as_the_next_whole_one():
    ranks = np.array([1, 1.5, 3, 10, 10.5, 4000])
    histogram = learner_histogram("rank", np.ones(6), ranks, bins=2)
    found = private_figures(histogram, "rank", 0.0)
    gains = 1 / np.log2(np.array([1, 2, 3, 10]) + 1)
    assert found["hr@10"].value == pytest.approx(4 / 6)
    assert found["ndcg@10"].value == pytest.approx(gains.sum() / 6)


@pytest.mark.parametrize("name", ["auc", "log_loss", "calibration_gap"])
def test_the_error_that_noise_makes_is_small_and_as_large_as_is_said(name):
    """5,000 learners under much noise: the figures' errors are their stated deviations."""
    histogram = summed(*population(5000), bins=20)
    true = private_figures(histogram, "binary", 0.0)[name].value
    random, deviation = np.random.default_rng(2), 26.0
    found = [
        private_figures(
            histogram + deviation * random.standard_normal(len(histogram)), "binary", deviation
        )[name]
        for _ in range(60)
    ]
    errors = np.array([one.value - true for one in found])
    stated = np.array([one.noise_deviation for one in found])
    assert np.abs(errors).max() < 0.03
    assert abs(errors.mean()) < errors.std() / 2
    assert 0.6 < errors.std() / stated.mean() < 1.5


@pytest.mark.parametrize("outcome", NAMES)
def test_figures_are_suppressed_where_the_noise_dominates(outcome: Outcome):
    random = np.random.default_rng(3)
    for learners in (0, 3):
        histogram = learners * learner_histogram(outcome, np.ones(8), np.full(8, 1.0), 20)
        noisy = histogram + 5 * random.standard_normal(len(histogram))
        assert private_figures(noisy, outcome, 5.0) == dict.fromkeys(NAMES[outcome])


def test_figures_of_one_class_only_are_suppressed():
    histogram = 1000 * learner_histogram("binary", np.ones(50), np.linspace(0, 1, 50), 20)
    assert set(private_figures(histogram, "binary", 0.0).values()) == {None}


def noisy(histograms: Floats, deviation: float, seed: int) -> Floats:
    return histograms + deviation * np.random.default_rng(seed).standard_normal(histograms.shape)


def test_without_noise_the_calibration_error_is_the_mean_distance_over_the_bins():
    labels, chances = np.array([1.0, 1, 0, 0, 0, 1]), np.array([0.1, 0.1, 0.1, 0.9, 0.9, 0.9])
    found = private_figures(learner_histogram("binary", labels, chances, 5), "binary", 0.0)
    assert found["calibration_gap"].value == pytest.approx(0.0)
    assert found["calibration_error"].value == pytest.approx(abs(2 / 3 - 0.1))


def test_noise_alone_does_not_make_a_calibrated_model_look_uncalibrated():
    """Its plain error would be four times what is told, of a model without any."""
    histogram = summed(*population(5000), bins=20)
    middle = np.tile((np.arange(20) + 0.5) / 20, 2)
    calibrated = (histogram[:20] + histogram[20:])[np.tile(np.arange(20), 2)]
    calibrated *= np.where(np.arange(40) < 20, 1 - middle, middle)
    found = [
        private_figures(noisy(calibrated, 26.0, seed), "binary", 26.0)["calibration_error"].value
        for seed in range(40)
    ]
    plain = [
        private_figures(noisy(calibrated, 26.0, seed), "binary", 0.0)["calibration_error"].value
        for seed in range(40)
    ]
    assert np.mean(found) < 0.5 * np.mean(plain)
    assert np.mean(found) < 0.02


def test_without_noise_groups_have_the_figures_of_their_own_learners():
    rows = np.stack([summed(*population(40, seed), bins=10) for seed in (1, 2, 3)])
    found = breakdown(rows, "binary", 0.0, ("A", "B"))
    whole = private_figures(rows.sum(axis=0), "binary", 0.0)
    assert list(found.groups) == ["A", "B", OTHER]
    for row, figures in zip(rows, found.groups.values(), strict=True):
        for name, figure in private_figures(row, "binary", 0.0).items():
            assert figures[name] == figure
            above = figures[name + ABOVE_ALL]
            assert above.value == pytest.approx(figure.value - whole[name].value)


@pytest.mark.parametrize("name", ["auc", "auc" + ABOVE_ALL, "calibration_gap" + ABOVE_ALL])
def test_the_error_of_a_groups_figure_is_as_large_as_is_said(name):
    rows = np.stack([summed(*population(size), bins=20) for size in (3000, 1500, 500)])
    true = breakdown(rows, "binary", 0.0, ("A", "B")).groups["A"][name].value
    found = [
        breakdown(noisy(rows, 10.0, seed), "binary", 10.0, ("A", "B")).groups["A"][name]
        for seed in range(60)
    ]
    errors = np.array([one.value - true for one in found])
    assert 0.6 < errors.std() / np.mean([one.noise_deviation for one in found]) < 1.5
    assert abs(errors.mean()) < errors.std() / 2


@pytest.mark.parametrize("outcome", NAMES)
def test_a_group_that_the_noise_dominates_is_suppressed_and_no_other(outcome: Outcome):
    """By the noisy sum alone: what is told of a group is fixed by it and the plan's noise."""
    labels = np.tile([0.0, 1.0], 10)
    outputs = np.linspace(0.05, 0.95, 20) if outcome == "binary" else np.linspace(1, 12, 20)
    one = learner_histogram(outcome, labels, outputs, 10)
    rows = noisy(np.stack([900 * one, 3 * one, 0 * one]), 4.0, 1)
    groups = breakdown(rows, outcome, 4.0, ("large", "small")).groups
    suffixed = {name + ABOVE_ALL for name in NAMES[outcome]}
    assert None not in groups["large"].values()
    assert groups["small"] == groups[OTHER] == dict.fromkeys(NAMES[outcome] | suffixed)


def test_without_groups_there_is_no_breakdown_by_group():
    assert breakdown(np.ones((1, 20)), "binary", 0.0, ()).groups == {}


def test_the_share_of_right_answers_is_told_by_bin_with_its_noise():
    labels, chances = population(2000)
    histogram = summed(labels, chances, bins=10)
    true = breakdown(histogram[None], "binary", 0.0, ()).bins
    assert true[5] == PrivateFigure(
        value=histogram[15] / (histogram[5] + histogram[15]), noise_deviation=0.0
    )
    found = [
        breakdown(noisy(histogram[None], 8.0, seed), "binary", 8.0, ()).bins[5]
        for seed in range(80)
    ]
    errors = np.array([one.value - true[5].value for one in found])
    assert 0.7 < errors.std() / np.mean([one.noise_deviation for one in found]) < 1.4


def test_a_bin_with_few_answers_tells_nothing_and_ranks_have_none():
    histogram = np.zeros((1, 20))
    histogram[0, [3, 13]] = 100
    bins = breakdown(histogram, "binary", 5.0, ()).bins
    assert [number for number, one in enumerate(bins) if one is not None] == [3]
    assert breakdown(np.ones((1, 11)), "rank", 0.0, ()).bins == ()
