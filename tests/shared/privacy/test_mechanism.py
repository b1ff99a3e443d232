"""Mechanisms, events and policies refuse what they cannot mean."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cloister_shared.privacy import Mechanism, NonPrivate, Policy, SampledGaussian
from cloister_shared.privacy.noise import KeyedNoise, gaussian

GOOD = {"noise_multiplier": 1.0, "clip_norm": 0.5, "sampling_rate": 0.1}


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": -1},
        {"noise_multiplier": math.nan},
        {"noise_multiplier": math.inf},
        {"noise_multiplier": 1e-160},
        {"noise_multiplier": 1e155},
        {"clip_norm": 0},
        {"clip_norm": -0.1},
        {"clip_norm": math.nan},
        {"clip_norm": math.inf},
        {"sampling_rate": 0},
        {"sampling_rate": 1.01},
        {"sampling_rate": math.nan},
        {"noise": 1.0},
    ],
)
def test_a_mechanism_that_means_nothing_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Mechanism.model_validate({**GOOD, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"noise_multiplier": 0},
        {"noise_multiplier": math.nan},
        {"noise_multiplier": 5e-324},
        {"noise_multiplier": 1e200},
        {"sampling_rate": 0},
        {"sampling_rate": 2},
        {"steps": 0},
        {"steps": 1.5},
        {"type": "gaussian"},
        {"learners": 12},
    ],
)
def test_an_event_without_a_price_is_refused(change: dict[str, object]) -> None:
    good = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 2}
    with pytest.raises(ValidationError):
        SampledGaussian.model_validate({**good, **change})


def test_documents_are_immutable() -> None:
    event = SampledGaussian(noise_multiplier=1, sampling_rate=0.1, steps=1)
    with pytest.raises(ValidationError, match="frozen"):
        event.noise_multiplier = 100.0


def test_a_mechanism_is_charged_as_what_it_does() -> None:
    assert Mechanism(**GOOD).event(7) == SampledGaussian(
        noise_multiplier=1.0, sampling_rate=0.1, steps=7
    )


def test_a_mechanism_without_noise_is_charged_as_non_private() -> None:
    mechanism = Mechanism(**{**GOOD, "noise_multiplier": 0})
    assert not mechanism.is_private
    assert mechanism.event(7) == NonPrivate()
    assert mechanism.step_norm_bound(10, 100) == math.inf


@given(
    st.floats(0.1, 20), st.floats(0.01, 5), st.floats(0.01, 1), st.integers(1, 400), st.integers(0)
)
def test_the_sum_of_all_learners_with_its_noise_stays_under_the_bound(
    noise: float, clip: float, rate: float, dimension: int, seed: int
) -> None:
    size = 60
    mechanism = Mechanism(noise_multiplier=noise, clip_norm=clip, sampling_rate=rate)
    aligned = np.full(dimension, clip * size / math.sqrt(dimension))
    drawn = noise * clip * gaussian(KeyedNoise(seed), dimension)
    mean = (aligned + drawn) / (rate * size)
    assert np.linalg.norm(mean) <= mechanism.step_norm_bound(dimension, size)


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"epsilon": 0, "delta": 1e-6}},
        {"min_noise_multiplier": -0.1},
        {"max_sampling_rate": 0},
        {"max_sampling_rate": 1.1},
        {"max_clip_norm": math.inf},
        {"max_local_steps": 0},
        {"min_declared_size": 0},
        {"consent": "none"},
        {"allow_everything": True},
    ],
)
def test_a_policy_that_means_nothing_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate(change)


def test_the_policy_ships_switched_on() -> None:
    policy = Policy()
    assert not policy.allow_without_guarantee
    assert policy.min_noise_multiplier > 0
    assert policy.budget.epsilon <= 8
    assert policy.min_declared_size > 1
