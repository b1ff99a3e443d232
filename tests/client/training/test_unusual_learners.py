"""Learners with next to nothing, with very much, or with what nobody else has."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cloister_client.histories import History
from cloister_client.models import model_kind
from cloister_client.training import train_round
from cloister_client.training.clipping import clipped_sums
from cloister_shared.errors import DataError
from cloister_shared.model_specs import ModelSpec
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec
from cloister_shared.plan import LocalTraining

from ..learners import (
    ITEMS,
    SKILLS,
    ConstantNoise,
    made_up_history,
    random_weights,
)
from ..models.per_learner import leaf_calls
from .checks import Case, check_sensitivity, flat_delta, make_case, source_of

DKT = DktSpec(skills=SKILLS, hidden=4, items=ITEMS, practice=True)
RECOMMENDER = RecommenderSpec(items=ITEMS, factors=3, negatives=2)
OTHERS = [made_up_history(answers, answers, 2) for answers in (7, 12)]

by_spec = pytest.mark.parametrize("spec", [DKT, RECOMMENDER], ids=["dkt", "recommender"])


def case_of(spec: ModelSpec, window: int = 200) -> Case:
    local = LocalTraining(learning_rate=10.0, window=window)
    return replace(make_case(), spec=spec, weights=random_weights(spec), local=local)


@by_spec
@pytest.mark.parametrize("answers", [0, 1, 2])
def test_who_has_hardly_answered_moves_the_model_by_the_bound_at_most(spec, answers):
    few = made_up_history(answers, 1)
    check_sensitivity(train_round, case_of(spec), [*OTHERS, few], ConstantNoise)
    check_sensitivity(train_round, case_of(spec), [few, few], ConstantNoise)


def test_one_answer_teaches_what_is_read_out_of_the_empty_state_and_nothing_else():
    spec = DktSpec(skills=SKILLS, hidden=4, items=ITEMS)
    one, case = made_up_history(1, 1), case_of(spec)
    deltas = [
        train_round(
            case.weights,
            source_of(histories),
            case.mechanism,
            case.spec,
            ConstantNoise(),
            local=case.local,
            declared_size=case.declared_size,
        ).delta
        for histories in ([one], [])
    ]
    moved = {name for name, delta in deltas[0].items() if (delta != deltas[1][name]).any()}
    assert moved == {"output", "item_bias"}


@pytest.fixture
def _fresh_peak():
    """Forget the most memory that this process has held."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        pytest.skip("the system does not say how much memory was in use")


def peak_memory() -> int:
    """Bytes."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


@pytest.mark.usefixtures("_fresh_peak")
@pytest.mark.parametrize(
    "spec", [DKT, RecommenderSpec(items=50_000, factors=3)], ids=["dkt", "recommender"]
)
def test_fifty_thousand_answers_of_one_learner_count_as_one_learner_in_little_memory(spec):
    items = np.arange(50_000, dtype=np.int32) % spec.items
    long, before = replace(made_up_history(50_000, 1), items=items), peak_memory()
    everybody, nobody = (
        flat_delta(train_round, case_of(spec), histories, ConstantNoise())
        for histories in ([long], [])
    )
    moved = np.linalg.norm(everybody - nobody) / case_of(spec).most
    assert 0.01 < moved <= 1.001
    assert peak_memory() - before < 300e6


def test_a_skill_that_only_one_learner_has_met_moves_the_model_by_the_bound_at_most():
    rare = replace(made_up_history(9, 1), skills=np.full((9, 1), SKILLS - 1, dtype=np.int32))
    usual = replace(made_up_history(9, 2), skills=np.zeros((9, 1), dtype=np.int32))
    case = case_of(DKT)
    check_sensitivity(train_round, case, [usual, rare], ConstantNoise)
    (scores,) = model_kind(DKT).score(DKT, case.weights, [rare])
    assert ((scores.outputs > 0) & (scores.outputs < 1)).all()


def beyond(history: History, name: str) -> History:
    array = getattr(history, name).copy()
    array.flat[-1] = 1000
    return replace(history, **{name: array})


@pytest.mark.parametrize(
    ("spec", "name"), [(DKT, "skills"), (DKT, "items"), (RECOMMENDER, "items")]
)
def test_a_skill_or_item_that_the_model_does_not_have_is_refused(spec, name):
    case, source = case_of(spec), source_of([*OTHERS, beyond(OTHERS[0], name)])
    with pytest.raises(DataError, match=f"a {name[:-1]} beyond the"):
        flat_delta(train_round, case, list(source.histories.values()), ConstantNoise())


class Allocations(TorchDispatchMode):
    """Counts the numbers in all tensors that are made: work as well as memory."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {address(one) for one in tree_leaves((args, kwargs)) if torch.is_tensor(one)}
        made = [one for one in tree_leaves(result) if torch.is_tensor(one)]
        self.count += sum(one.numel() for one in made if address(one) not in given)
        return result


def address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def allocated_for(learners: int, items: int) -> int:
    """Numbers made on the way from histories to their clipped sum."""
    spec = RecommenderSpec(items=items, factors=4, negatives=5)
    random = np.random.default_rng(1)
    histories = [
        replace(made_up_history(30, 1), items=random.choice(items, 30, False).astype(np.int32))
        for _ in range(learners)
    ]
    batch = model_kind(spec).batch(spec, histories, LocalTraining(), ConstantNoise())
    with Allocations() as allocations:
        calls = leaf_calls(spec, random_weights(spec), batch)
        clipped_sums(calls, batch.learner_of_row, batch.learners, 1.0)
    return allocations.count


def test_what_a_learner_costs_the_recommender_does_not_depend_on_the_size_of_the_catalogue():
    few, many = (allocated_for(20, items) - allocated_for(10, items) for items in (1000, 100_000))
    assert many < 1.05 * few
    assert few > 10 * 30


def test_a_catalogue_of_a_million_items_is_trained_on():
    spec = RecommenderSpec(items=1_000_000, factors=2)
    case = replace(case_of(spec), weights=random_weights(spec))
    items = np.arange(0, 1_000_000, 5000, dtype=np.int32)
    history = replace(made_up_history(len(items), 1), items=items)
    delta = flat_delta(train_round, case, [history], ConstantNoise())
    assert np.isfinite(delta).all()
