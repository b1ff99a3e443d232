"""An audit of the mechanism in one run of the real ``train_round``, with many canaries at once.

Each canary is in the data or not by a fair coin (Steinke, Nasr, Jagielski, "Privacy Auditing with
One (1) Training Run", 2023). The auditor sees the released weights, guesses ``guesses`` of the
coins, and counts. How often more can be right under the claim is bounded as by Mahloujifar, Melis,
Chaudhuri, "Auditing f-Differential Privacy in One Run", 2024; ADR 0022 has the argument.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from cloister_client.audit.canaries import CANARIES
from cloister_client.histories import MemoryHistorySource
from cloister_client.training import train_round
from cloister_shared import __version__
from cloister_shared.errors import ConfigError
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.accounting import epsilon
from cloister_shared.privacy.audit_report import AuditReport
from cloister_shared.privacy.events import SampledGaussian
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.privacy.noise import NoiseSource, SystemNoise, bernoulli

P = 1e-3
"""How often an honest mechanism may be found guilty, at most."""

_SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Of the canaries whose coins are guessed: few are guessed better, many show more."""

_HEADROOM = 1.35
"""By how much all guesses being right must exceed the claim, so that half of the noise shows."""

_STEEP = LocalTraining(loss_divisor=1e-4)
"""Losses times so much that the gradient of one answer is clipped at any usual clip."""

_NORMAL = NormalDist()


def audit_mechanism(
    kind: str, mechanism: Mechanism, *, steps: int, delta: float, canaries: int
) -> AuditReport:
    """Audit ``steps`` steps of ``train_round`` for a model kind; all noise is the system's.

    ``mechanism`` must add noise and sample everybody: what is audited is clip, sum, noise, divisor
    and composition. Raises ``ConfigError`` where so many canaries could not contradict the claim,
    whatever they show.
    """
    if not (mechanism.is_private and mechanism.sampling_rate == 1):
        raise ConfigError("an audit needs a mechanism with noise, at a sampling rate of 1")
    claimed = math.sqrt(steps) / mechanism.noise_multiplier
    guesses = guesses_for(claimed, canaries)
    source = SystemNoise()
    present = bernoulli(source, 0.5, canaries)
    scores = _scores(kind, mechanism, steps, present, source)
    correct = count_correct(scores, present, guesses)
    event = SampledGaussian(
        noise_multiplier=mechanism.noise_multiplier, sampling_rate=1.0, steps=steps
    )
    found = separation(correct, guesses, canaries)
    return AuditReport(
        kind=kind,
        event=event,
        clip_norm=mechanism.clip_norm,
        noise=mechanism.noise,
        delta=delta,
        claim=epsilon([event], delta, "pld"),
        lower_bound=_epsilon(found, delta),
        p=P,
        canaries=canaries,
        guesses=guesses,
        correct=correct,
        code_version=__version__,
    )


def _scores(
    kind: str,
    mechanism: Mechanism,
    steps: int,
    present: NDArray[np.bool_],
    source: NoiseSource,
) -> NDArray[np.float64]:
    """(canaries,) what the released weights say of each."""
    canaries = CANARIES.get(kind)(len(present))
    histories = {
        str(number): canaries.history(number) for number in np.flatnonzero(present).tolist()
    }
    result = train_round(
        canaries.weights(),
        MemoryHistorySource(histories),
        mechanism,
        canaries.spec,
        source,
        local=_STEEP.model_copy(update={"steps": steps}),
        declared_size=len(present),
    )
    return canaries.scores(result.delta)


def count_correct(scores: NDArray[np.float64], present: NDArray[np.bool_], guesses: int) -> int:
    """Right ones of ``guesses`` guesses: the upper half of them present, the lower absent."""
    order = np.argsort(scores, kind="stable")
    absent, there = order[: guesses // 2], order[len(order) - (guesses - guesses // 2) :]
    return int(np.sum(~present[absent]) + np.sum(present[there]))


def guesses_for(claimed: float, canaries: int) -> int:
    """How many coins to guess of a Gaussian mechanism of which ``claimed`` is 1/noise multiplier.

    Fixed before anything is seen. Raises ``ConfigError`` if no number of guesses would do.
    """
    for share in _SHARES:
        guesses = round(share * canaries)
        if guesses and separation(guesses, guesses, canaries) >= _HEADROOM * claimed:
            return guesses
    raise ConfigError(
        f"{canaries} canaries cannot contradict the claim of so little noise, even if every one "
        "were found out: audit fewer steps, more noise or more canaries"
    )


def separation(correct: int, guesses: int, canaries: int) -> float:
    """The largest 1/noise multiplier, to 1e-4, by which so many right guesses are rarer than P."""
    low, high = 0.0, 16.0
    if is_likely(correct, guesses, canaries, low):
        return 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        if is_likely(correct, guesses, canaries, middle):
            high = middle
        else:
            low = middle
    return low


def is_likely(correct: int, guesses: int, canaries: int, separation: float) -> bool:
    """Whether ``correct`` or more of ``guesses`` can be right with probability P.

    Of a mechanism whose outputs for two neighbours are no better told apart than N(0, 1) and
    N(``separation``, 1). Assumes that they are with probability P and follows what that entails for
    one less and one less: ``right`` and ``wrong`` are the expected numbers of right and of wrong
    guesses, over ``canaries``, where at least ``one`` are right. Together they cannot exceed
    ``guesses`` / ``canaries``.
    """
    right, wrong = P * correct / canaries, P * (guesses - correct) / canaries
    for one in range(correct - 1, -1, -1):
        needed = _NORMAL.cdf(_NORMAL.inv_cdf(right) - separation)
        if needed > wrong:
            right += one / (guesses - one) * (needed - wrong)
            wrong = needed
        if right + wrong > guesses / canaries or right >= 1:
            return False
    return True


def _epsilon(separation: float, delta: float) -> float:
    """ε at ``delta`` of one Gaussian mechanism."""
    if separation == 0:
        return 0.0
    event = SampledGaussian(noise_multiplier=1 / separation, sampling_rate=1.0, steps=1)
    return epsilon([event], delta, "pld")
