"""What every model kind declares: names, shapes, public initial weights, and what it refuses."""

import numpy as np
import pytest
from pydantic import ValidationError

from cloister_shared.curriculum import Curriculum, Item, Skill
from cloister_shared.errors import ConfigError, MessageError
from cloister_shared.model_specs import SPECS, ModelSpec, check_weights, parse_spec
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec


def catalogue(skills: int, items: int) -> Curriculum:
    names = [f"s{number}" for number in range(skills)]
    return Curriculum(
        name="c",
        skills=tuple(Skill(id=name) for name in names),
        items=tuple(Item(id=f"i{n}", skills=(names[n % skills],)) for n in range(items)),
    )


CURRICULUM = catalogue(3, 12)
MODELS = [
    DktSpec(skills=3, hidden=4),
    DktSpec(skills=3, hidden=4, items=12),
    RecommenderSpec(items=12, factors=4),
    RecommenderSpec(items=12, factors=5, prior=1.0),
]


@pytest.fixture(params=MODELS, ids=str)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return request.param


def test_initial_weights_have_the_shapes_and_pass_the_check(spec: ModelSpec) -> None:
    weights = spec.initial_weights(CURRICULUM, seed=1)
    check_weights(weights, spec)
    assert {name: array.shape for name, array in weights.items()} == spec.shapes()
    assert sum(array.size for array in weights.values()) == spec.dimension


def test_initial_weights_are_the_same_for_the_same_seed_only(spec: ModelSpec) -> None:
    first, again, other = (spec.initial_weights(CURRICULUM, seed) for seed in (1, 1, 2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    assert any((array != other[name]).any() for name, array in first.items())


def test_a_spec_survives_json_and_finds_its_class_by_kind(spec: ModelSpec) -> None:
    again = parse_spec(spec.model_dump(mode="json"))
    assert type(again) is type(spec)
    assert again == spec
    assert again.digest == spec.digest


def test_specs_differ_in_their_digest() -> None:
    assert len({spec.digest for spec in MODELS}) == len(MODELS)


def test_a_spec_of_another_size_than_the_curriculum_is_refused(spec: ModelSpec) -> None:
    for other in (catalogue(4, 13), catalogue(2, 11)):
        with pytest.raises(ConfigError, match="the curriculum 'c' has"):
            spec.check_curriculum(other)
        with pytest.raises(ConfigError):
            spec.initial_weights(other, seed=1)


def test_sizes_come_from_the_curriculum_not_from_options() -> None:
    assert DktSpec.for_curriculum(CURRICULUM, {"hidden": 8, "skills": 99}).skills == 3
    assert DktSpec.for_curriculum(CURRICULUM, {"item_bias": True}).items == 12
    assert RecommenderSpec.for_curriculum(CURRICULUM, {"items": 99}).items == 12
    for spec_type in (DktSpec, RecommenderSpec):
        with pytest.raises(ValidationError):
            spec_type.for_curriculum(CURRICULUM, {"layers": 2})


def test_weights_under_other_names_are_refused(spec: ModelSpec) -> None:
    weights = spec.initial_weights(CURRICULUM, seed=1)
    name = next(iter(weights))
    missing = {other: array for other, array in weights.items() if other != name}
    for found in (missing, {**weights, "extra": weights[name]}, {}):
        with pytest.raises(MessageError, match="asked for the arrays"):
            check_weights(found, spec)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_single_value_that_is_not_finite_is_refused(spec: ModelSpec, bad: float) -> None:
    for name in spec.shapes():
        weights = spec.initial_weights(CURRICULUM, seed=1)
        weights[name].flat[-1] = bad
        with pytest.raises(MessageError, match=f"{name} holds values that are not finite"):
            check_weights(weights, spec)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.complex64, np.bool_])
def test_another_dtype_is_refused(spec: ModelSpec, dtype: type) -> None:
    weights = spec.initial_weights(CURRICULUM, seed=1)
    name = next(iter(weights))
    with pytest.raises(MessageError, match="must be float32"):
        check_weights({**weights, name: weights[name].astype(dtype)}, spec)


def test_another_shape_is_refused_even_if_it_would_broadcast(spec: ModelSpec) -> None:
    weights = spec.initial_weights(CURRICULUM, seed=1)
    name = next(iter(weights))
    shapes = (weights[name][:1], weights[name].ravel(), weights[name][None], weights[name].T[:0])
    for array in shapes:
        with pytest.raises(MessageError, match="must be float32"):
            check_weights({**weights, name: array}, spec)


@pytest.mark.parametrize(
    "document", [None, [], "dkt", {}, {"kind": 3}, {"kind": "none"}, {"kind": "dkt"}]
)
def test_what_is_no_spec_is_a_value_error(document: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_spec(document)


class ThirdSpec(DktSpec):
    """A further kind, as another package would add it."""

    kind: str = "third"


def test_a_third_kind_can_be_registered() -> None:
    SPECS.register("third", ThirdSpec)
    assert isinstance(parse_spec({"kind": "third", "skills": 3}), ThirdSpec)


def test_forget_gates_start_open_and_biases_at_zero() -> None:
    weights = DktSpec(skills=3, hidden=4, items=12).initial_weights(CURRICULUM, seed=1)
    gates = weights["input"].reshape(6, 4, 4)
    assert gates[:, 1].mean() > 0.5 > abs(gates[:, 0].mean())
    assert (weights["output"][:, -1] == 0).all()
    assert (weights["item_bias"] == 0).all()


@pytest.mark.parametrize("factors", [32, 33])
def test_the_prior_makes_the_catalogues_next_item_likely(factors: int) -> None:
    """Among 40 items, after one of them, before anything was learned."""
    curriculum = catalogue(5, 40)
    spec = RecommenderSpec(items=40, factors=factors, prior=3.0)
    weights = spec.initial_weights(curriculum, seed=3)
    scores = weights["source"] @ weights["target"][:, :-1].T + weights["target"][:, -1]
    following = [(scores[item] > scores[item, item + 1]).sum() for item in range(39)]
    assert np.median(following) <= 2
    assert np.mean(following) < 5


def test_without_a_prior_nothing_is_likelier_than_chance() -> None:
    curriculum = catalogue(5, 40)
    weights = RecommenderSpec(items=40, factors=32).initial_weights(curriculum, seed=3)
    scores = weights["source"] @ weights["target"][:, :-1].T
    assert np.abs(scores).max() < 0.1
