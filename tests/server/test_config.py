"""The coordinator's config: the example shows every field with its default."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from cloister_server.config import CoordinatorConfig
from cloister_shared.frozen import describe
from cloister_shared.yaml_config import load_yaml

EXAMPLE = Path(__file__).parents[2] / "configs" / "coordinator" / "coordinator.yaml"
LEAST = {"consortium": "north-schools", "address": "coordinator.example.org"}


def test_the_example_shows_every_field_with_its_default() -> None:
    least = CoordinatorConfig.model_validate(LEAST)
    assert load_yaml(EXAMPLE, CoordinatorConfig) == least
    _shows_all_fields(yaml.safe_load(EXAMPLE.read_bytes()), least)


def _shows_all_fields(shown: dict[str, object], document: BaseModel) -> None:
    assert shown.keys() == type(document).model_fields.keys()
    for name, value in document:
        if isinstance(value, BaseModel):
            inner = shown[name]
            assert isinstance(inner, dict)
            _shows_all_fields(inner, value)


def test_an_address_stands_once_in_the_certificate() -> None:
    others = {"other_addresses": ["10.0.0.7", LEAST["address"]]}
    config = CoordinatorConfig.model_validate(LEAST | others)
    assert config.addresses == ("coordinator.example.org", "10.0.0.7")


def test_all_mistakes_are_named_at_once() -> None:
    wrong = {"consortium": "north schools", "address": "https://x/", "port": 0, "colour": "blue"}
    with pytest.raises(ValidationError) as caught:
        CoordinatorConfig.model_validate(wrong | {"limits": {"burst": 0}})
    for place in ("consortium", "address", "port", "limits.burst", "colour"):
        assert f"{place}:" in describe(caught.value)
