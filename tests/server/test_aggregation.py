"""The server's step, against literal references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloister_server.aggregation import OptimizerState, apply_mean, learning_rate
from cloister_shared.plan import ModelPlan, Plan, ServerOptimizer


def with_server(plan: Plan, **server: object) -> ModelPlan:
    return plan.models[0].model_copy(update={"server": ServerOptimizer.model_validate(server)})


def test_fedavg_adds_the_mean_times_the_rate(plan: Plan) -> None:
    weights, mean = {"w": np.ones(3, np.float32)}, {"w": np.array([1, 2, -4], np.float32)}
    model = with_server(plan, learning_rate=0.5)
    moved = apply_mean(weights, mean, model, 1, OptimizerState())
    np.testing.assert_array_equal(moved["w"], [1.5, 2, -1])
    assert moved["w"].dtype == np.float32
    np.testing.assert_array_equal(weights["w"], [1, 1, 1])


@given(st.lists(hnp.arrays(np.float64, 4, elements=st.floats(-2, 2)), min_size=1, max_size=6))
def test_fedadam_is_reddis_algorithm_with_adams_correction(means: list[np.ndarray]) -> None:
    server = ServerOptimizer(name="fedadam", learning_rate=0.1, beta1=0.8, beta2=0.95)
    model = ModelPlan.model_validate(
        {
            "spec": {"kind": "dkt", "skills": 1},
            "rounds": 10,
            "mechanism": {"noise_multiplier": 1, "clip_norm": 1, "sampling_rate": 1},
            "server": server,
        }
    )
    state = OptimizerState()
    weights = {"w": np.zeros(4, np.float32)}
    x, m, v = np.zeros(4), np.zeros(4), np.zeros(4)
    for step, delta in enumerate(means, start=1):
        rounded = delta.astype(np.float32)
        weights = apply_mean(weights, {"w": rounded}, model, step, state)
        for i in range(4):
            m[i] = 0.8 * m[i] + 0.2 * float(rounded[i])
            v[i] = 0.95 * v[i] + 0.05 * float(rounded[i]) ** 2
            x[i] += 0.1 * (m[i] / (1 - 0.8**step)) / ((v[i] / (1 - 0.95**step)) ** 0.5 + 1e-8)
    assert state.steps == len(means)
    np.testing.assert_allclose(weights["w"], x, rtol=1e-3, atol=1e-4)


def test_models_have_optimizer_states_of_their_own(plan: Plan) -> None:
    model = with_server(plan, name="fedadam")
    mean = {"w": np.ones(2, np.float32)}
    state, fresh = OptimizerState(), OptimizerState()
    for number in (1, 2):
        apply_mean(mean, mean, model, number, state)
    assert state.steps == 2
    assert fresh.steps == 0
    assert fresh.first == {}


def test_linear_decay_goes_from_the_whole_rate_towards_nothing() -> None:
    server = ServerOptimizer(learning_rate=0.4, decay="linear")
    rates = [learning_rate(server, number, 4) for number in (1, 2, 3, 4)]
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_without_decay_the_rate_stays() -> None:
    server = ServerOptimizer(learning_rate=0.4)
    assert {learning_rate(server, number, 4) for number in (1, 2, 3, 4)} == {0.4}
