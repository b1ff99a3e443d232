"""An audit of the mechanism in one run of the real ``train_round``, with many canaries at once.

Each canary is in the data or not by a fair coin (Steinke, Nasr, Jagielski, "Privacy Auditing with
One (1) Training Run", 2023). The auditor sees the released weights, guesses so many of the coins,
and counts; ``bound`` says what that proves.
"""

import numpy as np
from numpy.typing import NDArray

from cloister_client.audit.bound import P, guesses_for, refuted_noise, with_noise
from cloister_client.audit.canaries import CANARIES
from cloister_client.histories import MemoryHistorySource
from cloister_client.training import train_round
from cloister_shared import __version__
from cloister_shared.errors import ConfigError
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.accounting import epsilon
from cloister_shared.privacy.audit_report import MOST_DELTA, AuditReport
from cloister_shared.privacy.events import SampledGaussian
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.privacy.noise import NoiseSource, SystemNoise, bernoulli

_STEEP = LocalTraining(loss_divisor=1e-4)
"""Losses times so much that the gradient of one answer is clipped at any usual clip."""


def audit_mechanism(
    kind: str, mechanism: Mechanism, *, steps: int, delta: float, canaries: int
) -> AuditReport:
    """Audit ``steps`` steps of ``train_round`` for a model kind; all noise is the system's.

    What is audited is clip, sum, noise, divisor and composition; with a sampling rate below 1 also
    the sampler, whose chance hides much of what an audit could see. Raises ``ConfigError`` without
    noise, at a δ that is none or large, and where so many canaries could not contradict the claim,
    whatever they show.
    """
    if not 0 < delta <= MOST_DELTA:
        raise ConfigError(
            f"an audit's delta must be above 0 and at most {MOST_DELTA:g}, not {delta:g}: at a "
            "larger one every mechanism looks private"
        )
    event = mechanism.event(steps)
    if not isinstance(event, SampledGaussian):
        raise ConfigError("an audit needs a mechanism with noise")
    guesses = guesses_for(event, canaries)
    source = SystemNoise()
    present = bernoulli(source, 0.5, canaries)
    scores = _scores(kind, mechanism, steps, present, source)
    correct = count_correct(scores, present, guesses)
    noise = refuted_noise(correct, guesses, canaries, event)
    found = 0.0 if noise is None else epsilon([with_noise(event, noise)], delta, "pld")
    return AuditReport(
        kind=kind,
        event=event,
        clip_norm=mechanism.clip_norm,
        noise=mechanism.noise,
        delta=delta,
        claim=epsilon([event], delta, "pld"),
        lower_bound=found,
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
