"""What ``train_round`` gives back, whom it reads, and what it refuses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from cloister_client.histories import History, MemoryHistorySource
from cloister_client.models import MODEL_KINDS
from cloister_client.models.dkt import DktKind, DktModule
from cloister_client.models.recurrence import StateGates
from cloister_client.training import TrainingResult, train_round
from cloister_client.training.engine import chunks
from cloister_shared.errors import ConfigError, MessageError
from cloister_shared.model_specs.recommender import RecommenderSpec
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.events import NonPrivate, SampledGaussian
from cloister_shared.privacy.noise import NoiseSource, SystemNoise

from ..learners import (
    ITEMS,
    ConstantNoise,
    PairedNoise,
    RecordingSource,
    made_up_history,
    random_weights,
)
from .checks import Case, check_sensitivity, make_case, source_of

HISTORIES = [made_up_history(answers, answers) for answers in (3, 12, 0, 7)]


def train(
    case: Case,
    source: MemoryHistorySource | RecordingSource,
    noise: NoiseSource | None = None,
    cohorts: Sequence[str] | None = None,
) -> TrainingResult:
    return train_round(
        case.weights,
        source,
        case.mechanism,
        case.spec,
        noise or PairedNoise(1),
        local=case.local,
        declared_size=case.declared_size,
        cohorts=cohorts,
    )


def with_local(case: Case, **changes: object) -> Case:
    return replace(case, local=case.local.model_copy(update=changes))


def recommender_case() -> Case:
    spec = RecommenderSpec(items=ITEMS, factors=3, negatives=2)
    return replace(make_case(), spec=spec, weights=random_weights(spec))


@pytest.mark.parametrize("case", [make_case(steps=2), recommender_case()], ids=["dkt", "rec"])
def test_the_delta_has_the_weights_names_and_shapes_and_the_events_say_what_was_done(case):
    result = train(case, source_of(HISTORIES), SystemNoise())
    assert {name: (array.shape, array.dtype) for name, array in result.delta.items()} == {
        name: (shape, np.float32) for name, shape in case.spec.shapes().items()
    }
    event = SampledGaussian(noise_multiplier=1.0, sampling_rate=1.0, steps=case.local.steps)
    assert result.events == (event,)


def test_the_weights_that_were_given_are_not_changed():
    case = make_case()
    before = {name: array.copy() for name, array in case.weights.items()}
    train(case, source_of(HISTORIES))
    for name, array in before.items():
        np.testing.assert_array_equal(array, case.weights[name])


def test_one_learner_moves_the_recommender_by_the_bound_at_most():
    histories = [made_up_history(answers, answers) for answers in (1, 2, 5, 6, 50)]
    check_sensitivity(train_round, recommender_case(), histories, ConstantNoise)


def test_three_local_steps_are_three_rounds_of_one_step():
    case, noise = make_case(steps=3), PairedNoise(5)
    together = train(case, source_of(HISTORIES), noise)
    apart, noise = with_local(case, steps=1), PairedNoise(5)
    for _ in range(3):
        delta = train(apart, source_of(HISTORIES), noise).delta
        apart = replace(apart, weights={n: w + delta[n] for n, w in apart.weights.items()})
    for name, array in together.delta.items():
        moved = apart.weights[name] - case.weights[name]
        np.testing.assert_allclose(array, moved, atol=1e-3 * case.most)


def test_adam_takes_a_first_step_of_one_learning_rate_in_every_round():
    case = with_local(make_case(noise_multiplier=5.0), optimizer="adam", learning_rate=0.01)
    for _ in range(2):
        for array in train(case, source_of(HISTORIES), SystemNoise()).delta.values():
            np.testing.assert_allclose(np.median(np.abs(array)), 0.01, rtol=1e-3)


def test_without_noise_nothing_is_clipped_and_nothing_is_promised():
    case = make_case(noise_multiplier=0.0, clip_norm=1e-6)
    result = train(case, source_of(HISTORIES))
    assert result.events == (NonPrivate(),)
    length = np.sqrt(sum(np.sum(array**2) for array in result.delta.values()))
    assert length > 100 * case.most


def test_clipping_to_more_than_any_gradient_changes_nothing_but_the_noise():
    plain = train(make_case(noise_multiplier=0.0), source_of(HISTORIES)).delta
    private = make_case(noise_multiplier=1e-9, clip_norm=1.0)
    for name, array in train(private, source_of(HISTORIES)).delta.items():
        np.testing.assert_allclose(array, plain[name], atol=1e-6)


def test_only_train_learners_of_the_cohorts_are_read():
    source = RecordingSource(
        MemoryHistorySource(
            dict.fromkeys(("mine", "other", "evaluation", "nobody's"), HISTORIES[0]),
            roles={"evaluation": "evaluation"},
            cohorts={"mine": "2025", "other": "2024", "evaluation": "2025"},
        )
    )
    train(make_case(steps=2), source, cohorts=("2025",))
    assert source.asked == [("train", ("2025",))]
    assert source.loaded == [["mine"], ["mine"]]


def test_a_step_reads_only_those_who_were_sampled():
    source = RecordingSource(source_of(HISTORIES * 20))
    train(make_case(sampling_rate=0.1, steps=3), source, SystemNoise())
    assert all(len(sample) < 40 for sample in source.loaded)


def without(name: str) -> dict[str, np.ndarray]:
    return {one: array for one, array in make_case().weights.items() if one != name}


@pytest.mark.parametrize(
    "weights",
    [
        without("input"),
        {**make_case().weights, "bias": np.zeros(1, dtype=np.float32)},
        {**make_case().weights, "output": np.zeros((4, 4), dtype=np.float32)},
        {**make_case().weights, "output": make_case().weights["output"].astype(np.float64)},
        {**make_case().weights, "output": np.full_like(make_case().weights["output"], np.nan)},
        {**make_case().weights, "output": np.full_like(make_case().weights["output"], np.inf)},
    ],
    ids=["missing", "too many", "wrong shape", "wrong type", "not a number", "infinite"],
)
def test_weights_that_do_not_fit_are_refused_before_anybody_is_read(weights):
    source = RecordingSource(source_of(HISTORIES))
    with pytest.raises(MessageError, match="dkt"):
        train(replace(make_case(), weights=weights), source)
    assert not source.asked


class Extra(DktModule):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.extra = nn.Linear(2, 2)


class Frozen(DktModule):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.input.weight.requires_grad_(False)


class Loose(DktModule):
    """A parameter of the module itself, which no hook sees."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.weight = nn.Parameter(torch.zeros(1))


class Bilinear(DktModule):
    """A leaf of a type that is nobody's."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        weight, self.output = self.output.weight, OwnScores()
        self.output.weight = weight


class OwnScores(nn.Module):
    weight: nn.Parameter


class TwoMatrices(DktModule):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.input = StateGates(self.input.weight.detach())


class Twice(DktModule):
    def forward(self, inputs):
        return super().forward(inputs) + super().forward(inputs)


class Never(DktModule):
    def forward(self, inputs):
        states = self.output.weight.new_zeros(*inputs.items.shape, 4)
        return self.output(states, inputs.skills, inputs.shares > 0).sum(dim=2)


@pytest.fixture
def build_as(monkeypatch):
    def build_as(module: type[DktModule]) -> None:
        class Kind(DktKind):
            def build(self, spec, weights):
                return module(spec, weights)

        monkeypatch.setitem(MODEL_KINDS._objects, "dkt", Kind)

    return build_as


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Extra, "trainable parameters"),
        (Frozen, "trainable parameters"),
        (Loose, "trainable parameters"),
        (Bilinear, r"neither we nor Opacus know .* in \['output'\]"),
        (TwoMatrices, r"at most one .* \['input', 'recurrent'\]"),
    ],
)
def test_a_module_that_cannot_be_clipped_is_refused_before_anybody_is_read(module, said, build_as):
    build_as(module)
    source = RecordingSource(source_of(HISTORIES))
    with pytest.raises(ConfigError, match=said):
        train(make_case(), source)
    assert not source.asked


@pytest.mark.parametrize(
    ("module", "said"),
    [(Twice, "'input' was called 2 times"), (Never, "'input' was called 0 times")],
)
def test_a_leaf_that_is_not_called_once_is_named(module, said, build_as):
    build_as(module)
    with pytest.raises(ConfigError, match=said):
        train(make_case(), source_of(HISTORIES))


@dataclass(frozen=True)
class Sized:
    """Stands for a history where only its length matters."""

    size: int

    def __len__(self) -> int:
        return self.size


def test_chunks_hold_every_learner_once_and_a_bounded_number_of_gradients():
    lengths = [1] * 500 + [3] * 100 + [900] * 40 + [30_000]
    histories: list[History] = [Sized(size) for size in lengths]  # type: ignore[misc]
    local, dimension = LocalTraining(window=100), 1_000_000
    found = list(chunks(histories, local, dimension))
    assert sorted(len(one) for chunk in found for one in chunk) == sorted(lengths)
    for chunk in found:
        rows = sum(-(-len(one) // 100) for one in chunk)
        assert len(chunk) == 1 or rows <= 25
        assert len(chunk) == 1 or sum(map(len, chunk)) <= 40_000


def test_leaves_with_a_way_of_their_own_take_many_learners_at_once():
    assert len(list(chunks([made_up_history(5, 1)] * 1000, LocalTraining(), dimension=0))) == 1
