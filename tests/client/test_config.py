"""The node's config: the example file, the public sizes, and what only a simulation may do."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from cloister_client.config import NodeConfig, declared_size_for
from cloister_shared.frozen import describe
from cloister_shared.yaml_config import load_yaml

EXAMPLE = Path(__file__).parents[2] / "configs" / "node" / "node.yaml"


def test_the_example_shows_every_field_with_its_default() -> None:
    assert load_yaml(EXAMPLE, NodeConfig) == NodeConfig(name="school-a", declared_size=500)
    shown = yaml.safe_load(EXAMPLE.read_bytes())
    _shows_all_fields(shown, NodeConfig(name="a", declared_size=50))


def _shows_all_fields(shown: dict[str, object], document: BaseModel) -> None:
    assert shown.keys() == type(document).model_fields.keys()
    for name, value in document:
        if isinstance(value, BaseModel):
            inner = shown[name]
            assert isinstance(inner, dict)
            _shows_all_fields(inner, value)


def test_public_sizes_are_rounded_up() -> None:
    counts = [0, 1, 50, 51, 70, 71, 100, 101, 150, 151, 4150, 19093, 700_001]
    sizes = [50, 50, 50, 70, 70, 100, 100, 150, 150, 200, 5000, 20_000, 1_000_000]
    assert [declared_size_for(count) for count in counts] == sizes


@given(st.integers(min_value=0, max_value=10**9))
def test_a_public_size_is_never_too_small_and_stays_itself(count: int) -> None:
    size = declared_size_for(count)
    assert size >= max(count, 50)
    assert size <= max(50, 2 * count)
    assert declared_size_for(size) == size


def test_a_true_count_is_not_accepted_as_declared_size() -> None:
    with pytest.raises(ValidationError, match="for 512 learners that is 700"):
        NodeConfig(name="a", declared_size=512)


def test_a_simulation_may_declare_any_size_and_go_without_a_guarantee() -> None:
    document = {
        "name": "device-7",
        "simulation": True,
        "declared_size": 1,
        "policy": {"allow_without_guarantee": True},
    }
    assert NodeConfig.model_validate(document).declared_size == 1


def test_a_cohort_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="each cohort stands once"):
        NodeConfig(name="school", declared_size=50, cohorts=("2024", "2025", "2024"))


def test_all_mistakes_are_named_at_once() -> None:
    document = {
        "name": "school a",
        "declared_size": 99,
        "evaluation_share": 1,
        "policy": {"allow_without_guarantee": True, "budget": {"epsilon": 4, "delta": 1e-6}},
        "serving": {"port": 70000},
        "colour": "blue",
    }
    with pytest.raises(ValidationError) as caught:
        NodeConfig.model_validate(document)
    message = describe(caught.value)
    for place in ("name", "declared_size", "evaluation_share", "policy", "serving.port", "colour"):
        assert f"{place}:" in message
