"""The smallest consortium that is worth simulating."""

from typing import Any


def tiny_consortium() -> dict[str, Any]:
    """A simulation's config, but for its models: two schools of different level, one arm."""
    return {
        "name": "tiny",
        "seed": 3,
        "data": {
            "source": "synthetic",
            "generator": {
                "schools": [
                    {"name": "north", "learners": 60, "level": 0.3},
                    {"name": "south", "learners": 50, "level": -0.3},
                ],
                "skills": 3,
                "items_per_skill": 3,
                "answers_per_learner": 15,
            },
        },
        "partition": {"by": "institution"},
        "evaluation": {"share": 0.25},
        "privacy": {"budget": {"epsilon": 8.0, "delta": 1e-5}, "noise": "keyed"},
        "arms": ["federated"],
        "baselines": False,
    }
