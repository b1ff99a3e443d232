"""What right guesses prove: never more than is true, in all but one of a thousand audits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from cloister_client.audit.bound import TradeOff, guesses_for, is_likely, refuted_noise, with_noise
from cloister_client.audit.one_run import count_correct
from cloister_shared.privacy import SampledGaussian


def gaussian(noise_multiplier: float) -> SampledGaussian:
    return SampledGaussian(noise_multiplier=noise_multiplier, sampling_rate=1.0, steps=1)


SAMPLED = SampledGaussian(noise_multiplier=2.0, sampling_rate=0.1, steps=300)
BARELY = TradeOff.of(gaussian(1e4))
"""Neighbours are all but the same."""


@settings(deadline=None, max_examples=50)
@given(noise=st.floats(0.4, 20), probability=st.floats(1e-6, 1 - 1e-6))
def test_the_trade_off_of_a_gaussian_is_its_exact_one(noise: float, probability: float) -> None:
    exact = norm.cdf(norm.ppf(probability) - 1 / noise)
    assert TradeOff.of(gaussian(noise)).least(probability) == pytest.approx(
        exact, rel=2e-3, abs=1e-9
    )


@settings(deadline=None, max_examples=50)
@given(
    noise=st.floats(0.3, 20),
    rate=st.sampled_from([0.01, 0.1, 1.0]),
    steps=st.integers(1, 50),
    probabilities=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_the_trade_off_is_convex_and_asks_no_more_than_the_same(
    noise: float, rate: float, steps: int, probabilities: tuple[float, float]
) -> None:
    trade_off = TradeOff.of(
        SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=steps)
    )
    one, other = map(trade_off.least, probabilities)
    between = trade_off.least(sum(probabilities) / 2)
    assert between <= (one + other) / 2 + 1e-12
    assert 0 <= between <= sum(probabilities) / 2 + 1e-12


def test_right_guesses_that_chance_alone_gives_prove_nothing():
    assert refuted_noise(500, 1000, 1000, gaussian(1.0)) is None
    assert refuted_noise(540, 1000, 1000, gaussian(1.0)) is None


def test_without_privacy_loss_the_bound_is_that_of_fair_coins():
    """With all coins guessed the limit is near the binomial one of p = .001."""
    limit = next(
        correct for correct in range(500, 1001) if not is_likely(correct, 1000, 1000, BARELY)
    )
    assert 549 <= limit <= 700


@pytest.mark.parametrize("noise", [4.0, 1.0, 0.5])
def test_the_truth_is_not_refuted_in_all_but_one_of_a_thousand_gaussian_mechanisms(noise):
    random, canaries, guesses = np.random.default_rng(1), 2000, 200
    trade_off = TradeOff.of(gaussian(noise))
    for _ in range(200):
        present = random.random(canaries) < 0.5
        scores = present / noise + random.standard_normal(canaries)
        correct = count_correct(scores, present, guesses)
        assert is_likely(correct, guesses, canaries, trade_off)


@pytest.mark.parametrize(("rate", "steps"), [(0.1, 300), (0.25, 20), (0.1, 1)])
def test_nor_in_mechanisms_that_sample(rate, steps):
    random, canaries, guesses, noise = np.random.default_rng(2), 2000, 200, 1.5
    event = SampledGaussian(noise_multiplier=noise, sampling_rate=rate, steps=steps)
    trade_off = TradeOff.of(event)
    for _ in range(200):
        present = random.random(canaries) < 0.5
        drawn = random.binomial(steps, rate, canaries) * present
        scores = drawn + math.sqrt(steps) * noise * random.standard_normal(canaries)
        correct = count_correct(scores, present, guesses)
        assert is_likely(correct, guesses, canaries, trade_off)


@pytest.mark.parametrize("event", [gaussian(1.0), SAMPLED])
def test_more_right_guesses_refute_more_noise(event):
    found = [refuted_noise(correct, 500, 10_000, event) for correct in (350, 400, 450, 490, 500)]
    assert all(one is not None for one in found)
    assert found == sorted(found, reverse=True)


def test_what_is_refuted_is_refuted_by_a_little_less_noise_and_not_by_a_little_more():
    noise = refuted_noise(450, 500, 10_000, SAMPLED)
    for factor, likely in ((1.02, False), (0.98, True)):
        trade_off = TradeOff.of(with_noise(SAMPLED, noise * factor))
        assert is_likely(450, 500, 10_000, trade_off) is likely


def test_the_number_of_guesses_follows_the_claim_only():
    assert guesses_for(gaussian(4.0), 100_000) == 1000
    assert guesses_for(gaussian(1.0), 100_000) == 2000
    assert guesses_for(gaussian(1 / 1.5), 100_000) > 2000
