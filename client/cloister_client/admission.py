"""Whether a node takes part in a plan: its own policy against the coordinator's settings."""

from collections.abc import Iterator

from cloister_shared.errors import PolicyError
from cloister_shared.plan import ModelPlan, Plan
from cloister_shared.privacy.policy import Policy


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
    reasons = [reason for model in plan.models for reason in _excesses(model, policy)]
    if plan.metrics and plan.metrics.noise_multiplier < policy.min_noise_multiplier:
        reasons.append(
            f"metrics' noise multiplier {plan.metrics.noise_multiplier} must be >= "
            f"{policy.min_noise_multiplier}"
        )
    if reasons:
        raise PolicyError("the plan is beyond this node's policy: " + "; ".join(reasons), "policy")


def _excesses(model: ModelPlan, policy: Policy) -> Iterator[str]:
    mechanism, kind = model.mechanism, model.spec.kind
    if not mechanism.is_private:
        if not policy.allow_without_guarantee:
            yield f"{kind} trains without noise"
        return
    limits = [
        ("noise multiplier", mechanism.noise_multiplier, ">=", policy.min_noise_multiplier),
        ("sampling rate", mechanism.sampling_rate, "<=", policy.max_sampling_rate),
        ("clip norm", mechanism.clip_norm, "<=", policy.max_clip_norm),
        ("local steps", model.local.steps, "<=", policy.max_local_steps),
    ]
    for name, asked, relation, limit in limits:
        if asked < limit if relation == ">=" else asked > limit:
            yield f"{kind} {name} {asked} must be {relation} {limit}"
