"""The numpy tracer against the trained module, and a carried state against a replay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_client.histories import History
from cloister_client.personalization.tracer import Tracer, TracerState
from cloister_shared.errors import DataError, MessageError
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.dkt import DktSpec

NOBODY = History(
    np.zeros(0, np.int32), np.zeros((0, 1), np.int32), np.zeros(0, np.float32), np.zeros(0)
)


def random_weights(spec: DktSpec, random: np.random.Generator, scale: float = 1.0) -> Weights:
    return {
        name: (scale * random.standard_normal(shape)).astype(np.float32)
        for name, shape in spec.shapes().items()
    }


def random_catalogue(skills: int, items: int, random: np.random.Generator) -> np.ndarray:
    """(items, 2) different skill positions; about half of the items have one skill only."""
    table = random.integers(0, skills, (items, 2)).astype(np.int32)
    table[(random.random(items) < 0.5) | (table[:, 0] == table[:, 1]), 1] = -1
    return table


def random_history(catalogue: np.ndarray, length: int, random: np.random.Generator) -> History:
    items = random.integers(0, len(catalogue), length).astype(np.int32)
    correct = random.integers(0, 2, length).astype(np.float32)
    return History(items, catalogue[items], correct, np.arange(length, dtype=np.float64))


@st.composite
def cases(draw) -> tuple[Tracer, History]:
    """A tracer with random weights (small to saturating) and a random history."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    items = draw(st.integers(1, 15))
    spec = DktSpec(
        skills=draw(st.integers(1, 12)),
        hidden=draw(st.integers(1, 20)),
        items=draw(st.sampled_from([0, items])),
        practice=draw(st.booleans()),
        practice_scale=draw(st.sampled_from([1.0, 0.3])),
        skill_scale=draw(st.sampled_from([1.0, 0.5])),
    )
    catalogue = random_catalogue(spec.skills, items, random)
    weights = random_weights(spec, random, draw(st.sampled_from([0.01, 0.3, 3.0, 1e4])))
    history = random_history(catalogue, draw(st.integers(0, 40)), random)
    return Tracer(spec, weights, catalogue), history


@settings(deadline=None)
@given(case=cases(), cut=st.integers(0, 40))
def test_a_state_carried_through_bytes_equals_a_replay(case: tuple[Tracer, History], cut: int):
    tracer, history = case
    early = TracerState.from_bytes(tracer.replay(history[:cut]).to_bytes())
    carried, replayed = tracer.replay(history[cut:], early), tracer.replay(history)
    np.testing.assert_allclose(carried.h, replayed.h, atol=1e-6, rtol=0)
    np.testing.assert_allclose(carried.c, replayed.c, atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(
        tracer.mastery(carried, history), tracer.mastery(replayed, history), atol=1e-6
    )


@settings(deadline=None)
@given(case=cases())
def test_predictions_are_finite_probabilities_however_large_the_weights(case):
    tracer, history = case
    with np.errstate(all="raise", under="ignore"):
        state = tracer.replay(history)
        for chances in (tracer.mastery(state, history), tracer.success(state, history)):
            assert chances.dtype == np.float32
            assert ((chances >= 0) & (chances <= 1)).all()


@pytest.mark.parametrize("items", [0, 30], ids=["skills alone", "with item difficulties"])
@pytest.mark.parametrize("practice", [False, True], ids=["deep", "wide and deep"])
def test_what_is_served_is_what_was_trained(items: int, practice: bool):
    from cloister_client.models.dkt import DktKind

    random = np.random.default_rng(3)
    spec = DktSpec(skills=7, hidden=16, items=items, practice=practice)
    catalogue = random_catalogue(7, 30, random)
    weights = random_weights(spec, random, 0.4)
    history = random_history(catalogue, 60, random)
    tracer = Tracer(spec, weights, catalogue)
    served = [
        tracer.success(tracer.replay(history[:position]), history[:position])[
            history.items[position]
        ]
        for position in range(1, len(history))
    ]
    trained = DktKind().score(spec, weights, [history])[0].outputs
    np.testing.assert_allclose(served, trained, atol=1e-5)


def test_an_item_is_the_mean_of_its_skills_logits():
    spec = DktSpec(skills=2, hidden=1)
    weights = {name: np.zeros(shape, np.float32) for name, shape in spec.shapes().items()}
    weights["output"][:, -1] = [-1.0, 3.0]
    tracer = Tracer(spec, weights, np.array([[0, -1], [1, -1], [0, 1]], dtype=np.int32))
    expected = 1 / (1 + np.exp([1.0, -3.0, -1.0]))
    np.testing.assert_allclose(tracer.success(tracer.initial(), NOBODY), expected, rtol=1e-6)


def test_mastery_of_a_skill_is_that_of_its_usual_item():
    spec = DktSpec(skills=3, hidden=1, items=3)
    weights = {name: np.zeros(shape, np.float32) for name, shape in spec.shapes().items()}
    weights["output"][:, -1] = [0.5, 0.5, 0.5]
    weights["item_bias"][:, 0] = [1.0, 3.0, -4.0]
    tracer = Tracer(spec, weights, np.array([[0, -1], [0, 1], [1, -1]], dtype=np.int32))
    expected = 1 / (1 + np.exp([-2.5, 0.0, -0.5]))
    np.testing.assert_allclose(tracer.mastery(tracer.initial(), NOBODY), expected, rtol=1e-6)


def test_weights_of_another_shape_are_refused():
    small, large = DktSpec(skills=2, hidden=2), DktSpec(skills=2, hidden=3)
    weights = random_weights(small, np.random.default_rng(0))
    with pytest.raises(MessageError, match="input must be float32"):
        Tracer(large, weights, np.zeros((1, 1), np.int32))


@pytest.mark.parametrize("size", [0, 4, 12])
def test_bytes_that_are_no_state_are_refused(size: int):
    with pytest.raises(DataError, match=f"found {size} bytes"):
        TracerState.from_bytes(bytes(size))
