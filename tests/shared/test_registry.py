"""Named objects from entry points and from this process."""

import pytest

from cloister_shared.errors import ConfigError
from cloister_shared.model_specs import SPECS
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.registry import Registry


def test_installed_entry_points_are_found() -> None:
    assert {"dkt", "recommender"} <= set(SPECS.names())
    assert SPECS.get("dkt") is DktSpec


def test_what_is_registered_shadows_an_entry_point() -> None:
    registry: Registry[object] = Registry("cloister.model_specs")
    mine = object()
    registry.register("dkt", mine)
    assert registry.get("dkt") is mine
    assert list(registry).count("dkt") == 1


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    registry: Registry[str] = Registry("cloister.nothing_like_this")
    registry.register("b", "x")
    registry.register("a", "y")
    with pytest.raises(ConfigError, match="no nothing_like_this entry is called 'c'; known: a, b"):
        registry.get("c")


def test_names_are_sorted() -> None:
    registry: Registry[int] = Registry("cloister.nothing_like_this")
    for number, name in enumerate("cab"):
        registry.register(name, number)
    assert registry.names() == list(registry) == ["a", "b", "c"]
