"""What an auditor checks of a ``train_round``, whichever one it is; each raises ``AssertionError``.

The honest one must pass all of them and each deliberately broken one must fail its own, so that a
check that never fails is found out.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from cloister_client.histories import History, MemoryHistorySource
from cloister_client.training import TrainingResult
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.privacy.noise import NoiseSource, SystemNoise
from cloister_shared.privacy.release import NoiseKind

from ..learners import (
    SKILLS,
    PairedNoise,
    RecordingSource,
    made_up_history,
    random_weights,
    together,
)

TrainRound = Callable[..., TrainingResult]

UNLIKELY = 1e-7
"""How often a check may fail by chance, each time that it looks at a random number."""


@dataclass(frozen=True)
class Case:
    """One setting of a round."""

    spec: ModelSpec
    weights: Weights
    mechanism: Mechanism
    local: LocalTraining
    declared_size: int

    @property
    def most(self) -> float:
        """How far one learner may move the delta: learning rate · clip / (rate · declared size)."""
        divisor = self.mechanism.sampling_rate * self.declared_size
        return self.local.learning_rate * self.mechanism.clip_norm / divisor


def make_case(
    hidden: int = 4,
    *,
    noise_multiplier: float = 1.0,
    clip_norm: float = 0.01,
    sampling_rate: float = 1.0,
    declared_size: int = 20,
    steps: int = 1,
    noise: NoiseKind = "gaussian",
) -> Case:
    spec = DktSpec(skills=SKILLS, hidden=hidden)
    return Case(
        spec=spec,
        weights=random_weights(spec),
        mechanism=Mechanism(
            noise_multiplier=noise_multiplier,
            clip_norm=clip_norm,
            sampling_rate=sampling_rate,
            noise=noise,
        ),
        local=LocalTraining(steps=steps, learning_rate=10.0, window=5),
        declared_size=declared_size,
    )


def source_of(histories: Sequence[History]) -> MemoryHistorySource:
    return MemoryHistorySource({f"learner {n}": one for n, one in enumerate(histories)})


def flat_delta(
    train: TrainRound, case: Case, histories: Sequence[History], noise: NoiseSource
) -> NDArray[np.float64]:
    """The delta of all weights as one vector."""
    delta = _train(train, case, source_of(histories), noise).delta
    return np.concatenate([delta[name].ravel() for name in case.weights]).astype(np.float64)


def paired_noise() -> NoiseSource:
    return PairedNoise(1)


def check_sensitivity(
    train: TrainRound,
    case: Case,
    histories: Sequence[History],
    noise: Callable[[], NoiseSource] = paired_noise,
) -> None:
    """Taking out any one learner, noise being equal, moves the delta by at most ``case.most``."""
    everybody = flat_delta(train, case, histories, noise())
    for position in range(len(histories)):
        others = [*histories[:position], *histories[position + 1 :]]
        moved = np.linalg.norm(everybody - flat_delta(train, case, others, noise()))
        assert moved <= 1.001 * case.most, f"moved by {moved / case.most:.3g} times the bound"


def check_noise(train: TrainRound, case: Case, histories: Sequence[History] = ()) -> None:
    """Without anybody's answers, each array of the delta is Gaussian of the declared scale."""
    delta = _train(train, case, source_of(histories), SystemNoise()).delta
    for name, array in delta.items():
        standard = array.ravel() / (case.mechanism.noise_multiplier * case.most)
        squares = float(np.sum(np.square(standard, dtype=np.float64)))
        low, high = stats.chi2.ppf([UNLIKELY, 1 - UNLIKELY], len(standard))
        assert low < squares < high, f"{name} has {squares / len(standard):.3g} of the variance"
        assert stats.kstest(standard, "norm").pvalue > UNLIKELY, f"{name} is not Gaussian"


def check_poisson_sampling(train: TrainRound, case: Case, learners: int = 60) -> None:
    """Each learner is in each step's sample independently, at the mechanism's rate."""
    source = RecordingSource(source_of([made_up_history(0, 0)] * learners))
    _train(train, case, source, SystemNoise())
    rate, steps = case.mechanism.sampling_rate, case.local.steps
    assert len(source.loaded) == steps
    sizes = np.array([len(sample) for sample in source.loaded])
    spread = np.sum((sizes - learners * rate) ** 2) / (learners * rate * (1 - rate))
    low, high = stats.chi2.ppf([UNLIKELY, 1 - UNLIKELY], steps)
    assert low < spread < high, "the size of the sample does not vary as it should"
    names = source.learners("train")
    present = np.array([[name in sample for name in names] for sample in source.loaded])
    for counts, chance in (
        (present.sum(axis=0), rate),
        ((present[1:] & present[:-1]).sum(axis=0), rate**2),
    ):
        expected = (steps * chance, np.sqrt(steps * chance))
        assert (abs(counts - expected[0]) < 6.5 * expected[1]).all(), "samples are not independent"


def check_public_divisor(train: TrainRound, case: Case, histories: Sequence[History]) -> None:
    """The delta is in inverse proportion to the declared size, whatever the data set's is."""
    once = flat_delta(train, case, histories, PairedNoise(2))
    twice = replace(case, declared_size=2 * case.declared_size)
    np.testing.assert_allclose(
        2 * flat_delta(train, twice, histories, PairedNoise(2)), once, atol=1e-3 * case.most
    )


def check_mean_within_learner(train: TrainRound, case: Case) -> None:
    """Who answers the same five times over has no more say, and takes none from others."""
    mine, other = made_up_history(case.local.window, 1), made_up_history(case.local.window, 2)
    nobody = flat_delta(train, case, [], PairedNoise(3))
    short = flat_delta(train, case, [mine, other], PairedNoise(3)) - nobody
    long = flat_delta(train, case, [together(*[mine] * 5), other], PairedNoise(3)) - nobody
    assert np.linalg.norm(long - short) < 1e-3 * np.linalg.norm(short)


def check_no_seed_matters(train: TrainRound, case: Case) -> None:
    """Seeding every generator of the process changes no noise, and no two runs share any."""
    deltas = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        deltas.append(flat_delta(train, case, [], SystemNoise()))
    distance = np.sum((deltas[0] - deltas[1]) ** 2)
    scale = 2 * (case.mechanism.noise_multiplier * case.most) ** 2
    low, high = stats.chi2.ppf([UNLIKELY, 1 - UNLIKELY], len(deltas[0]))
    assert low < distance / scale < high


def _train(
    train: TrainRound, case: Case, source: MemoryHistorySource | RecordingSource, noise: NoiseSource
) -> TrainingResult:
    return train(
        case.weights,
        source,
        case.mechanism,
        case.spec,
        noise,
        local=case.local,
        declared_size=case.declared_size,
    )
