"""A small node, its config and curriculum; both ways to run what there are kernels for."""

from collections.abc import Iterator

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


@pytest.fixture(params=["compiled", "in PyTorch"])
def _either_way(request, monkeypatch) -> None:
    """With kernels, and as on a machine without a compiler."""
    from cloister_client.kernels import loader

    if request.param == "in PyTorch":
        monkeypatch.setattr(loader, "available", lambda dtype: False)
    elif loader.kernels() is None:
        pytest.skip("no compiler on this machine")


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def _threads(request) -> Iterator[None]:
    import torch

    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(1)
