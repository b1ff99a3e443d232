"""A consortium of two tiny schools, and what it takes to train it in a second."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.tiny import tiny_consortium

from cloister_simulations.config import SimulationConfig

MakeConfig = Callable[..., SimulationConfig]


def tiny_document() -> dict[str, Any]:
    server = {"name": "fedadam", "learning_rate": 0.05, "decay": "linear"}
    return {
        **tiny_consortium(),
        "private_baselines": False,
        "evaluate_every_rounds": 3,
        "models": [
            {
                "kind": "dkt",
                "spec": {"hidden": 4},
                "private": {
                    "rounds": 6,
                    "sampling_rate": 0.5,
                    "clip_norm": 0.1,
                    "server": server,
                },
                "non_private": {"rounds": 6, "sampling_rate": 1.0, "server": server},
            }
        ],
    }


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    """The tiny consortium; keyword arguments replace whole sections, ``private`` adds to one."""

    def make(private: dict[str, Any] | None = None, **sections: Any) -> SimulationConfig:
        document = {**tiny_document(), **sections}
        document["models"][0]["private"].update(private or {})
        return SimulationConfig.model_validate(document)

    return make
