"""A finished model: all of it is installed, or nothing."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from cloister_client.node import Node
from cloister_shared.messages import (
    Receipt,
    Release,
    pack,
    unpack,
)
from cloister_shared.model_specs import Weights
from cloister_shared.privacy import Policy

from .learners import small_curriculum
from .nodes import BUDGET, SPECS, make_node, make_plan, plan_weights, refusal_of, request

Installed = list[tuple[str, str, int]]


@pytest.fixture
def installed() -> Installed:
    return []


@pytest.fixture
def installing(installed) -> Callable[..., Node]:
    def install(release: Release, weights: Mapping[str, Weights]) -> None:
        for kind in weights:
            installed.append((kind, release.plan.digest, release.round))

    return lambda **changes: make_node(install=install, **changes)


def test_a_release_installs_every_model_of_the_plan_and_is_confirmed(installing, installed):
    plan = make_plan()
    answer = installing().answer_release(pack(Release(plan=plan, round=3), plan_weights(plan)))
    receipt, arrays = unpack(answer, Receipt)
    assert (receipt.plan, receipt.round, receipt.node) == (plan.digest, 3, "oak")
    assert not arrays
    assert installed == [("dkt", plan.digest, 3), ("recommender", plan.digest, 3)]


def released(change: Callable[[Weights], Weights]) -> bytes:
    plan = make_plan()
    return pack(Release(plan=plan, round=3), change(plan_weights(plan)))


@pytest.mark.parametrize(
    "message",
    [
        released(lambda arrays: {n: a for n, a in arrays.items() if n.startswith("dkt")}),
        released(lambda arrays: {**arrays, "third/kind": np.zeros(1, dtype=np.float32)}),
        released(lambda arrays: {**arrays, "recommender/source": np.zeros(2, dtype=np.float32)}),
        released(lambda arrays: {n: a * np.inf for n, a in arrays.items()}),
        released(lambda arrays: {"loose": np.zeros(1, dtype=np.float32)}),
        pack(
            Release(plan=make_plan(spec={**SPECS["dkt"], "skills": 4}), round=3),
            plan_weights(make_plan(spec={**SPECS["dkt"], "skills": 4})),
        ),
        request(make_plan()),
        b"garbage",
    ],
    ids=[
        "one model only",
        "a third model",
        "another shape",
        "not finite",
        "an array of no model",
        "another number of skills",
        "another message",
        "garbage",
    ],
)
def test_a_release_that_does_not_fit_installs_no_model_at_all(installing, installed, message):
    assert refusal_of(installing().answer_release(message)) == "message"
    assert installed == []


def test_a_model_that_is_larger_than_the_policy_allows_is_not_installed(installing, installed):
    plan = make_plan()
    node = installing(policy=Policy(budget=BUDGET, max_parameters=10))
    answer = node.answer_release(pack(Release(plan=plan, round=3), plan_weights(plan)))
    assert refusal_of(answer) == "policy"
    assert installed == []


def test_a_release_for_another_curriculum_of_the_same_size_is_not_installed(installing, installed):
    plan = make_plan()
    node = installing(curriculum=small_curriculum("another"))
    answer = node.answer_release(pack(Release(plan=plan, round=3), plan_weights(plan)))
    assert refusal_of(answer) == "curriculum"
    assert installed == []
