"""Whether a node takes part in a plan: its own policy against the coordinator's settings."""

from collections.abc import Iterator
from typing import Literal

from cloister_shared.errors import PolicyError
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy.policy import Policy

_Limit = tuple[str, float, Literal[">=", "<="], float]
"""A setting's name, what the plan asks, how it must stand to the limit, and the limit."""


def admit(plan: Plan, name: str, declared_size: int, curriculum: str, policy: Policy) -> None:
    """Raise ``PolicyError`` with a code and all reasons if this node does not take part.

    Nothing here depends on learners: the same plan is refused whatever the node holds.
    """
    if plan.curriculum != curriculum:
        raise PolicyError("the plan is for another curriculum than this node's", "curriculum")
    if plan.declared_sizes.get(name) != declared_size:
        raise PolicyError(
            f"the plan gives this node the declared size {plan.declared_sizes.get(name)}, "
            f"it declared {declared_size}",
            "declared_size",
        )
    if declared_size < policy.min_declared_size:
        raise PolicyError(
            f"declared size {declared_size} is below the policy's floor {policy.min_declared_size}",
            "declared_size_floor",
        )
    if policy.require_secure_aggregation and plan.trust == "node":
        raise PolicyError(
            'the policy requires secure aggregation, the plan has trust = "node": ask the '
            "coordinator for another plan, or set require_secure_aggregation: false",
            "secure_aggregation",
        )
    reasons = [reason for model in plan.models for reason in _excesses(model, policy)]
    if plan.metrics and plan.metrics.noise_multiplier < policy.min_metric_noise_multiplier:
        reasons.append(
            f"metrics noise multiplier {plan.metrics.noise_multiplier} must be >= "
            f"{policy.min_metric_noise_multiplier}"
        )
    if reasons:
        raise PolicyError("the plan is beyond this node's policy: " + "; ".join(reasons), "policy")


def admit_size(plan: Plan, policy: Policy) -> None:
    """Raise ``PolicyError`` if a released plan has models too large for the node to use."""
    for model in plan.models:
        if model.spec.dimension > policy.max_parameters:
            raise PolicyError(
                f"{model.spec.kind} has {model.spec.dimension} parameters, the policy's "
                f"max_parameters is {policy.max_parameters}",
                "policy",
            )


def _excesses(model: ModelPlan, policy: Policy) -> Iterator[str]:
    limits = _size_limits(model, policy)
    if model.mechanism.is_private:
        limits += _privacy_limits(model, policy)
    elif not policy.allow_without_guarantee:
        yield f"{model.spec.kind} trains without noise"
    for name, asked, relation, limit in limits:
        if asked < limit if relation == ">=" else asked > limit:
            yield f"{model.spec.kind} {name} {asked} must be {relation} {limit}"


def _privacy_limits(model: ModelPlan, policy: Policy) -> list[_Limit]:
    mechanism = model.mechanism
    return [
        ("noise multiplier", mechanism.noise_multiplier, ">=", policy.min_noise_multiplier),
        ("sampling rate", mechanism.sampling_rate, "<=", policy.max_sampling_rate),
        ("clip norm", mechanism.clip_norm, "<=", policy.max_clip_norm),
        ("local steps", model.local.steps, "<=", policy.max_local_steps),
    ]


def _size_limits(model: ModelPlan, policy: Policy) -> list[_Limit]:
    """A window is cut of every so many answers, and each is padded to the longest."""
    return [
        ("parameters", model.spec.dimension, "<=", policy.max_parameters),
        ("window", model.local.window, ">=", policy.min_window),
        ("window", model.local.window, "<=", policy.max_window),
    ]
