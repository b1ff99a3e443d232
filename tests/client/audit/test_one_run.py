"""The audit: an honest round stays below its claim, every broken one is found out."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from cloister_client.audit.canaries import CANARIES
from cloister_client.audit.one_run import audit_mechanism
from cloister_client.histories import MemoryHistorySource
from cloister_client.training import engine, train_round
from cloister_client.training import round as rounds
from cloister_client.training.clipping import clipped_sums
from cloister_shared.errors import ConfigError
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy import Mechanism, release
from cloister_shared.privacy.audit_report import AuditReport
from cloister_shared.privacy.discrete import discrete_gaussian
from cloister_shared.privacy.noise import SystemNoise, gaussian

torch.set_num_threads(1)

MECHANISM = Mechanism(noise_multiplier=2.0, clip_norm=0.5, sampling_rate=1.0)
MANY = 100_000
KINDS = ["dkt", "recommender"]


def audited(kind: str = "dkt", mechanism: Mechanism = MECHANISM, steps: int = 1) -> AuditReport:
    return audit_mechanism(kind, mechanism, steps=steps, delta=1e-6, canaries=MANY)


@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_round_stays_below_its_claim_but_not_far(kind):
    report = audited(kind)
    assert report.holds
    assert report.claim / 3 < report.lower_bound < report.claim
    assert report.p == 1e-3


def test_more_steps_and_whole_noise_are_audited_alike():
    noise = MECHANISM.model_copy(update={"noise_multiplier": 4.0, "noise": "discrete_gaussian"})
    report = audited(mechanism=noise, steps=4)
    assert report.holds
    assert report.claim == pytest.approx(audited().claim, rel=1e-3)
    assert report.lower_bound > report.claim / 3


def noise_times(patch: pytest.MonkeyPatch, factor: float) -> None:
    patch.setattr(release, "gaussian", lambda source, count: factor * gaussian(source, count))


def noise_off(patch: pytest.MonkeyPatch) -> None:
    noise_times(patch, 0.0)


def half_of_the_noise(patch: pytest.MonkeyPatch) -> None:
    noise_times(patch, 0.5)


def a_clip_ten_times_as_wide(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        engine,
        "clipped_sums",
        lambda calls, owners, learners, clip: clipped_sums(calls, owners, learners, 10 * clip),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("broken", [noise_off, half_of_the_noise, a_clip_ten_times_as_wide])
def test_a_broken_round_is_found_out(kind, broken, monkeypatch):
    broken(monkeypatch)
    report = audited(kind)
    assert report.lower_bound > report.claim
    assert not report.holds


def test_half_of_the_whole_noise_is_found_out(monkeypatch):
    monkeypatch.setattr(
        release,
        "discrete_gaussian",
        lambda source, sd, count: discrete_gaussian(source, sd / 2, count),
    )
    assert not audited(mechanism=MECHANISM.model_copy(update={"noise": "discrete_gaussian"})).holds


@pytest.mark.parametrize("delta", [0.9, 0.01, 0.0, -1.0, float("nan")])
def test_no_delta_may_be_so_large_that_whatever_is_found_holds(delta):
    with pytest.raises(ConfigError, match="delta must be above 0 and at most"):
        audit_mechanism("dkt", MECHANISM, steps=1, delta=delta, canaries=MANY)


def test_noise_that_the_next_step_takes_back_is_found_out(monkeypatch):
    drawn: list[np.ndarray] = []

    def taken_back(source, count):
        if drawn:
            return -drawn.pop()
        drawn.append(gaussian(source, count))
        return drawn[0].copy()

    monkeypatch.setattr(release, "gaussian", taken_back)
    assert not audited(steps=2).holds


SAMPLED = MECHANISM.model_copy(update={"noise_multiplier": 1.5, "sampling_rate": 0.2})


def audited_sample() -> AuditReport:
    return audit_mechanism("dkt", SAMPLED, steps=20, delta=1e-6, canaries=20_000)


def test_a_mechanism_that_samples_is_audited_too_and_proves_less():
    report = audited_sample()
    assert report.holds
    assert report.event == SAMPLED.event(20)
    assert 0.2 * report.claim < report.lower_bound < 0.6 * report.claim


def everybody_in_every_step(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rounds, "bernoulli", lambda source, rate, count: np.ones(count, bool))


@pytest.mark.parametrize("broken", [noise_off, everybody_in_every_step])
def test_a_broken_sampler_or_its_noise_is_found_out(broken, monkeypatch):
    broken(monkeypatch)
    assert not audited_sample().holds


@pytest.mark.parametrize("kind", KINDS)
def test_a_canary_moves_no_score_but_its_own(kind):
    canaries = CANARIES.get(kind)(1000)
    histories = {"only": canaries.history(7)}
    delta = train_round(
        canaries.weights(),
        MemoryHistorySource(histories),
        Mechanism(noise_multiplier=1e-9, clip_norm=0.5, sampling_rate=1.0),
        canaries.spec,
        SystemNoise(),
        local=LocalTraining(loss_divisor=1e-4),
        declared_size=1,
    ).delta
    told = canaries.scores(delta)
    assert np.argmax(told) == 7
    assert told[7] > 0.49
    others = np.delete(told, 7)
    assert np.abs(others).max() < 0.06 * told[7]


def test_what_canaries_could_not_contradict_is_not_called_an_audit():
    weak = MECHANISM.model_copy(update={"noise_multiplier": 0.1})
    with pytest.raises(ConfigError, match="cannot contradict"):
        audited(mechanism=weak)


def test_a_mechanism_without_noise_is_not_audited():
    with pytest.raises(ConfigError, match="needs a mechanism with noise"):
        audited(mechanism=MECHANISM.model_copy(update={"noise_multiplier": 0.0}))


def test_a_kind_without_canaries_is_named():
    with pytest.raises(ConfigError, match="'essays'"):
        audited("essays")


def test_the_claim_is_the_price_of_the_same_event():
    report = audited()
    assert report.event == MECHANISM.event(1)
    # A Gaussian's exact δ (Balle and Wang 2018, theorem 8) at the claimed ε is the report's.
    mu, claim = 1 / MECHANISM.noise_multiplier, report.claim
    exact = norm.cdf(mu / 2 - claim / mu) - math.exp(claim) * norm.cdf(-mu / 2 - claim / mu)
    assert exact == pytest.approx(report.delta, rel=1e-2)
