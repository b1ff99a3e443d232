"""A small node: its config and curriculum."""

import pytest

from cloister_client.config import NodeConfig
from cloister_shared.curriculum import Curriculum, Item, Skill


@pytest.fixture
def curriculum() -> Curriculum:
    return Curriculum(
        name="fractions",
        skills=tuple(Skill(id=f"s{number}") for number in range(4)),
        items=(
            Item(id="i0", skills=("s0",)),
            Item(id="i1", skills=("s1", "s2")),
            Item(id="i2", skills=("s3",)),
        ),
    )


@pytest.fixture
def node_config() -> NodeConfig:
    return NodeConfig(name="school-a", declared_size=50)
