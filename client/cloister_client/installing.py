"""Which released models a node takes over for its own service."""

from collections.abc import Callable, Mapping

from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import MessageError, PolicyError
from cloister_shared.model_specs import ModelSpec, Weights, check_weights
from cloister_shared.plan import Plan

Install = Callable[[ModelSpec, Weights, str, int], None]
"""Keeps a released model: its spec, weights, plan digest and round."""
Activate = Callable[[str, int], None]
"""Puts what a plan, by its digest, released after a round into service, or decides against it."""


def leave_it(plan: str, round_number: int) -> None:
    """For nodes that serve nobody."""


def install_release(
    plan: Plan,
    round_number: int,
    weights: Mapping[str, Weights],
    curriculum: Curriculum,
    install: Install,
) -> None:
    """Install every model of a release; ``weights`` are by model kind.

    All of them or none: raises ``PolicyError`` for another curriculum and ``MessageError`` or
    ``ConfigError`` where a model does not fit, before the first is installed.
    """
    if plan.curriculum != curriculum.digest:
        raise PolicyError("the release is for another curriculum than this node's", "curriculum")
    specs = {model.spec.kind: model.spec for model in plan.models}
    if weights.keys() != specs.keys():
        raise MessageError("a release holds the plan's models, each once")
    for kind, spec in specs.items():
        spec.check_curriculum(curriculum)
        check_weights(weights[kind], spec)
    for kind, spec in specs.items():
        install(spec, weights[kind], plan.digest, round_number)
