"""The mechanism is the one that is charged: the checks pass, and notice when it is another."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from cloister_client.models.dkt import DktKind
from cloister_client.models.table_gradient import LearnerTables
from cloister_client.training import clipping, engine, train_round
from cloister_client.training import round as round_module
from cloister_client.training.clipping import clipped_sums
from cloister_client.training.coefficients import coefficients_for
from cloister_client.training.engine import PrivateEngine
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy import release
from cloister_shared.privacy.noise import bernoulli, gaussian, uniform

from ..learners import ConstantNoise, made_up_history
from .checks import (
    check_mean_within_learner,
    check_no_seed_matters,
    check_noise,
    check_poisson_sampling,
    check_public_divisor,
    check_sensitivity,
    flat_delta,
    make_case,
)

RAGGED = [made_up_history(answers, seed) for seed, answers in enumerate((3, 40, 0, 1, 6, 11))]
"""Between no and eight windows of five answers."""


def sensitivity() -> None:
    check_sensitivity(train_round, make_case(), RAGGED)


def noise_without_learners() -> None:
    check_noise(train_round, make_case(hidden=32))


def noise_without_answers() -> None:
    check_noise(train_round, make_case(hidden=32), [made_up_history(0, 0)] * 3)


def noise_on_the_integers() -> None:
    check_noise(train_round, make_case(hidden=32, noise="discrete_gaussian"), RAGGED[2:3])


def noise_for_an_empty_sample() -> None:
    """At this rate nobody is ever sampled."""
    check_noise(train_round, make_case(hidden=32, sampling_rate=1e-12), RAGGED)


def poisson_sampling() -> None:
    check_poisson_sampling(train_round, make_case(sampling_rate=0.2, steps=300))


def public_divisor() -> None:
    check_public_divisor(train_round, make_case(), RAGGED)


def mean_within_learner() -> None:
    check_mean_within_learner(train_round, make_case(clip_norm=10.0, noise_multiplier=1e-6))


def no_seed_matters() -> None:
    check_no_seed_matters(train_round, make_case(hidden=32))


@pytest.mark.parametrize(
    "check",
    [
        sensitivity,
        noise_without_learners,
        noise_without_answers,
        noise_on_the_integers,
        noise_for_an_empty_sample,
        poisson_sampling,
        public_divisor,
        mean_within_learner,
        no_seed_matters,
    ],
)
def test_a_round_keeps_its_promise(check):
    check()


def test_the_bound_on_one_learner_is_reached_so_the_check_of_it_means_something():
    case = make_case()
    everybody, nobody = (
        flat_delta(train_round, case, h, ConstantNoise()) for h in (RAGGED[1:2], [])
    )
    assert np.linalg.norm(everybody - nobody) == pytest.approx(case.most, rel=1e-2)


Patch = Callable[[pytest.MonkeyPatch], None]


def scaled_noise(factor: float) -> Patch:
    return lambda patch: patch.setattr(
        release, "gaussian", lambda source, count: factor * gaussian(source, count)
    )


def noise_on_some_weights_only(patch: pytest.MonkeyPatch) -> None:
    def partial(source, count):
        drawn = gaussian(source, count)
        drawn[-100:] = 0
        return drawn

    patch.setattr(release, "gaussian", partial)


def uniform_noise(patch: pytest.MonkeyPatch) -> None:
    def same_variance(source, count):
        return np.sqrt(12) * (uniform(source, count) - 0.5)

    patch.setattr(release, "gaussian", same_variance)


def noise_of_torch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        release, "gaussian", lambda _, count: torch.randn(count, dtype=torch.float64).numpy()
    )


def a_clip_ten_times_as_wide(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        engine,
        "clipped_sums",
        lambda calls, owners, learners, clip: clipped_sums(calls, owners, learners, 10 * clip),
    )


def a_clip_of_some_weights_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LearnerTables, "squared_norms", lambda self: torch.zeros(self.learners))


def one_clip_for_all(patch: pytest.MonkeyPatch) -> None:
    """Everybody is scaled down as one who is clipped least."""
    honest = coefficients_for

    def most(squares, clip_norm):
        coefficients = honest(squares, clip_norm)
        return coefficients.max().expand(len(coefficients))

    patch.setattr(clipping, "coefficients_for", most)


def windows_as_samples(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        engine,
        "clipped_sums",
        lambda calls, rows, _, clip: clipped_sums(calls, torch.arange(len(rows)), len(rows), clip),
    )


def shuffled_batches(patch: pytest.MonkeyPatch) -> None:
    """Batches of a fixed size, walking through a shuffled list of learners."""
    position = 0

    def walk(source, probability, count):
        nonlocal position
        del source
        size = round(probability * count)
        chosen = np.zeros(count, dtype=bool)
        chosen[(position + np.arange(size)) % count] = True
        position += size
        return chosen

    patch.setattr(round_module, "bernoulli", walk)


def one_coin_for_all(patch: pytest.MonkeyPatch) -> None:
    def together(source, probability, count):
        return np.repeat(bernoulli(source, probability, 1), count)

    patch.setattr(round_module, "bernoulli", together)


def a_count_as_divisor(patch: pytest.MonkeyPatch) -> None:
    honest = PrivateEngine.step

    def step(self, histories):
        self.optimizer.expected_batch_size = max(1, len(histories))
        honest(self, histories)

    patch.setattr(PrivateEngine, "step", step)


def empty_batches_skipped(patch: pytest.MonkeyPatch) -> None:
    honest = PrivateEngine.step
    patch.setattr(
        PrivateEngine,
        "step",
        lambda self, histories: honest(self, histories) if histories else None,
    )


def reweighted(weigh: Callable[[torch.Tensor], torch.Tensor]) -> Patch:
    def apply(patch: pytest.MonkeyPatch) -> None:
        honest = DktKind.batch

        def batch(*arguments):
            made = honest(*arguments)
            return replace(
                made, inputs=replace(made.inputs, weights=weigh(made.inputs.weights > 0).float())
            )

        patch.setattr(DktKind, "batch", batch)

    return apply


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (scaled_noise(0.0), noise_without_learners),
        (scaled_noise(0.9), noise_without_learners),
        (scaled_noise(1.1), noise_without_answers),
        (noise_on_some_weights_only, noise_without_learners),
        (uniform_noise, noise_without_learners),
        (noise_of_torch, no_seed_matters),
        (a_clip_ten_times_as_wide, sensitivity),
        (a_clip_of_some_weights_only, sensitivity),
        (one_clip_for_all, sensitivity),
        (windows_as_samples, sensitivity),
        (a_count_as_divisor, sensitivity),
        (a_count_as_divisor, public_divisor),
        (shuffled_batches, poisson_sampling),
        (one_coin_for_all, poisson_sampling),
        (empty_batches_skipped, noise_for_an_empty_sample),
        (reweighted(lambda known: known), mean_within_learner),
        (reweighted(lambda known: known / known.sum()), mean_within_learner),
    ],
    ids=[
        "no noise",
        "a tenth less noise",
        "a tenth more noise",
        "noise on some weights only",
        "noise that is not Gaussian",
        "noise of torch's generator",
        "a clip ten times as wide",
        "a clip of some weights only",
        "one clip for all",
        "windows as samples",
        "a count as divisor, moved",
        "a count as divisor, scaled",
        "shuffled batches of one size",
        "one coin for everybody",
        "empty batches skipped",
        "a sum within the learner",
        "a mean over everybody's answers",
    ],
)
def test_a_round_that_breaks_a_promise_is_caught(broken, check, monkeypatch):
    broken(monkeypatch)
    with pytest.raises(AssertionError):
        check()


def test_the_promises_hold_when_learners_are_taken_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(engine, "_ANSWERS_AT_ONCE", 15)
    assert len(list(engine.chunks(RAGGED, make_case().local, 0))) == 3
    sensitivity()
    mean_within_learner()


def test_the_promises_hold_when_rows_are_padded_only_so_far(monkeypatch):
    monkeypatch.setattr(engine, "_CELLS_AT_ONCE", 10)
    assert len(list(engine.chunks(RAGGED, make_case().local, 0))) > 1
    sensitivity()
    mean_within_learner()


def test_one_long_history_among_many_short_ones_does_not_exhaust_memory():
    """Padded to its length, they would take gigabytes."""
    histories = [made_up_history(5, n) for n in range(7000)] + [made_up_history(2000, 1)]
    parts = list(engine.chunks(histories, LocalTraining(window=2000), 0))
    assert sum(map(len, parts)) == len(histories)
    assert all(len(part) * len(part[-1]) <= engine._CELLS_AT_ONCE for part in parts)
