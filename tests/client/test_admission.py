"""The institution's own policy decides about a plan, and nothing else does."""

import pytest

from cloister_client.admission import admit
from cloister_shared.errors import PolicyError
from cloister_shared.plan import LocalTraining, ModelPlan, Plan
from cloister_shared.privacy import Mechanism, Policy

POLICY = Policy(
    min_noise_multiplier=1.0,
    max_sampling_rate=0.25,
    max_clip_norm=0.5,
    max_local_steps=3,
    min_declared_size=50,
)
LIMITS = {"noise_multiplier": 1.0, "sampling_rate": 0.25, "clip_norm": 0.5}


def make_plan(
    steps: int = 3, declared_size: int = 50, window: int = 200, size: int = 1, **mechanism: float
) -> Plan:
    model = {
        "rounds": 1,
        "mechanism": Mechanism(**{**LIMITS, **mechanism}),
        "local": LocalTraining(steps=steps, window=window),
    }
    return Plan(
        run="r",
        curriculum="c",
        models=(
            ModelPlan(spec={"kind": "dkt", "skills": size}, **model),
            ModelPlan(spec={"kind": "recommender", "items": size}, **model),
        ),
        declared_sizes={"oak": declared_size},
    )


def admitted(plan: Plan, policy: Policy = POLICY) -> None:
    admit(plan, "oak", 50, "c", policy)


def test_a_plan_at_every_limit_is_admitted():
    admitted(make_plan())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"noise_multiplier": 0.999}, "noise multiplier 0.999 must be >= 1.0"),
        ({"sampling_rate": 0.26}, "sampling rate 0.26 must be <= 0.25"),
        ({"clip_norm": 0.51}, "clip norm 0.51 must be <= 0.5"),
        ({"steps": 4}, "local steps 4 must be <= 3"),
        ({"noise_multiplier": 0}, "trains without noise"),
        ({"window": 9}, "window 9 must be >= 10"),
        ({"window": 2001}, "window 2001 must be <= 2000"),
        ({"size": 1_000_000}, r"parameters \d+ must be <= 5000000"),
    ],
)
def test_a_plan_beyond_a_limit_is_refused_with_what_was_asked_and_what_is_allowed(changes, told):
    with pytest.raises(PolicyError, match=told) as caught:
        admitted(make_plan(**changes))
    assert caught.value.code == "policy"
    assert "dkt" in str(caught.value)
    assert "recommender" in str(caught.value)


def test_all_reasons_are_told_at_once():
    with pytest.raises(PolicyError) as caught:
        admitted(make_plan(steps=4, sampling_rate=0.3, clip_norm=0.6))
    assert str(caught.value).count(" must be ") == 6


@pytest.mark.parametrize(
    ("name", "size", "curriculum", "code"),
    [
        ("oak", 50, "another", "curriculum"),
        ("oak", 60, "c", "declared_size"),
        ("elm", 50, "c", "declared_size"),
    ],
)
def test_a_plan_for_another_node_is_refused(name, size, curriculum, code):
    with pytest.raises(PolicyError) as caught:
        admit(make_plan(), name, size, curriculum, POLICY)
    assert caught.value.code == code


def test_a_declared_size_below_the_policys_floor_is_refused():
    with pytest.raises(PolicyError) as caught:
        admit(make_plan(declared_size=49), "oak", 49, "c", POLICY)
    assert caught.value.code == "declared_size_floor"


def test_a_policy_for_simulations_admits_a_plan_without_noise():
    policy = POLICY.model_copy(update={"allow_without_guarantee": True})
    admitted(make_plan(noise_multiplier=0, clip_norm=1e6, sampling_rate=1), policy)
    with pytest.raises(PolicyError):
        admitted(make_plan(noise_multiplier=0.5), policy)


def test_a_policy_ships_switched_on():
    with pytest.raises(PolicyError, match="without noise"):
        admitted(make_plan(noise_multiplier=0), Policy())
