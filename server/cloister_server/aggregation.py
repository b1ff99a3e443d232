"""What the server does with the mean of the nodes' deltas."""

from dataclasses import dataclass, field

import numpy as np

from cloister_shared.model_specs import Weights
from cloister_shared.plan import ModelPlan, ServerOptimizer


@dataclass
class OptimizerState:
    """Adam's moments of one model, by weight name; empty before the first step."""

    steps: int = 0
    first: Weights = field(default_factory=dict)
    second: Weights = field(default_factory=dict)


def apply_mean(
    weights: Weights, mean: Weights, model: ModelPlan, round_number: int, state: OptimizerState
) -> Weights:
    """New weights after one server step; ``state`` is updated in place."""
    rate = learning_rate(model.server, round_number, model.rounds)
    if model.server.name == "fedavg":
        return {name: weights[name] + np.float32(rate) * mean[name] for name in weights}
    return _fedadam(weights, mean, model.server, rate, state)


def learning_rate(server: ServerOptimizer, round_number: int, rounds: int) -> float:
    """The rate in round ``round_number`` ≥ 1 of ``rounds``."""
    if server.decay == "linear":
        return server.learning_rate * (rounds - round_number + 1) / rounds
    return server.learning_rate


def _fedadam(
    weights: Weights, mean: Weights, server: ServerOptimizer, rate: float, state: OptimizerState
) -> Weights:
    """Reddi et al. 2021, algorithm 2, with Adam's bias correction."""
    state.steps += 1
    moved: Weights = {}
    for name, delta in mean.items():
        zeros = np.zeros_like(delta)
        first = server.beta1 * state.first.get(name, zeros) + (1 - server.beta1) * delta
        second = server.beta2 * state.second.get(name, zeros) + (1 - server.beta2) * delta**2
        state.first[name], state.second[name] = first.astype(np.float32), second.astype(np.float32)
        unbiased = first / (1 - server.beta1**state.steps)
        scale = np.sqrt(second / (1 - server.beta2**state.steps)) + server.stabilizer
        moved[name] = (weights[name] + rate * unbiased / scale).astype(np.float32)
    return moved
