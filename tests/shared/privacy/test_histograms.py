"""Private metrics: one learner moves the sum by at most 1, and figures know their noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import log_loss, roc_auc_score

from cloister_shared.privacy.histograms import (
    BEST_RANKS,
    Floats,
    Outcome,
    cells,
    learner_histogram,
    private_figures,
)

LABELS = arrays.arrays(np.float64, st.integers(0, 40), elements=st.sampled_from([0.0, 1.0]))


def population(learners: int, seed: int = 1) -> tuple[list[Floats], list[Floats]]:
    """Labels and calibrated probabilities of so many learners, 30 predictions each."""
    random = np.random.default_rng(seed)
    chances = [random.beta(2, 1.5, 30) for _ in range(learners)]
    return [(random.random(30) < one).astype(float) for one in chances], chances


def summed(labels: list[Floats], chances: list[Floats], bins: int) -> Floats:
    pairs = zip(labels, chances, strict=True)
    return np.sum([learner_histogram("binary", *pair, bins) for pair in pairs], axis=0)


@given(labels=LABELS, bins=st.integers(2, 50), data=st.data())
def test_one_learner_moves_the_sum_by_one_at_most_whatever_a_model_says(labels, bins, data):
    chance = st.floats(allow_nan=True, allow_infinity=True)
    chances = data.draw(arrays.arrays(np.float64, len(labels), elements=chance))
    histogram = learner_histogram("binary", labels, chances, bins)
    assert histogram.shape == (cells("binary", bins),)
    assert np.linalg.norm(histogram) == pytest.approx(min(1, len(labels)))
    ranks = data.draw(arrays.arrays(np.float64, len(labels), elements=st.floats(1, 1e6)))
    histogram = learner_histogram("rank", labels, ranks, bins)
    assert histogram.shape == (BEST_RANKS + 1,)
    assert np.linalg.norm(histogram) == pytest.approx(min(1, len(labels)))


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


@pytest.mark.parametrize(
    ("outcome", "names"),
    [
        ("binary", {"auc", "log_loss", "calibration_gap"}),
        ("rank", {"hr@10", "ndcg@10"}),
    ],
)
def test_figures_are_suppressed_where_the_noise_dominates(outcome: Outcome, names: set[str]):
    random = np.random.default_rng(3)
    for learners in (0, 3):
        histogram = learners * learner_histogram(outcome, np.ones(8), np.full(8, 1.0), 20)
        noisy = histogram + 5 * random.standard_normal(len(histogram))
        assert private_figures(noisy, outcome, 5.0) == dict.fromkeys(names)


def test_figures_of_one_class_only_are_suppressed():
    histogram = 1000 * learner_histogram("binary", np.ones(50), np.linspace(0, 1, 50), 20)
    assert set(private_figures(histogram, "binary", 0.0).values()) == {None}
