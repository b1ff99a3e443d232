"""One learner-level DP-SGD step of DKT: ours, Opacus's DPLSTM in hooks mode, and without privacy.

A step takes B ragged histories to updated weights: batch, forward, backward, clip, noise, update.
Ours draws its noise from the operating system; Opacus's contender from torch's generator.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.layers import DPLSTM
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.nn import functional

from cloister_client.histories import History
from cloister_client.models.dkt import DktKind, DktModule
from cloister_client.training.engine import PlainEngine, PrivateEngine, Task
from cloister_client.training.process import keep_freed_memory
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.privacy.noise import SystemNoise
from cloister_simulations.benchmarks.harness import BenchmarkResult, interleaved, machine

SHAPES = ((64, 100, 100), (64, 200, 200), (256, 100, 100), (256, 200, 100), (256, 200, 200))
"""(learners, longest history, LSTM units)."""
SKILLS = 123
FILL = 0.6
"""Share of the padded answers that are real."""
CLIP, NOISE, RATE = 0.1, 1.0, 0.01


class OneHotDkt(nn.Module):
    """DKT as it is usually written: one-hot inputs, an LSTM layer, logits of every skill."""

    def __init__(self, lstm: nn.Module, hidden: int) -> None:
        super().__init__()
        self.lstm, self.output = lstm, nn.Linear(hidden, SKILLS)

    def forward(self, answered: torch.Tensor) -> torch.Tensor:
        """(B, T, skills) logits after each answer; ``answered`` (B, T, 2 · skills) one-hot."""
        states, _ = self.lstm(answered)
        logits: torch.Tensor = self.output(states)
        return logits


@dataclass(frozen=True)
class _Padded:
    """The same answers for the one-hot contenders: (B, T) each."""

    skill: torch.Tensor
    correct: torch.Tensor
    weight: torch.Tensor

    def loss(self, module: nn.Module) -> torch.Tensor:
        """(B,) mean loss within each learner, of every answer but the first."""
        answered = functional.one_hot(self.skill + SKILLS * self.correct.long(), 2 * SKILLS).float()
        logits = module(answered)[:, :-1].gather(2, self.skill[:, 1:].unsqueeze(2)).squeeze(2)
        losses = functional.binary_cross_entropy_with_logits(
            logits, self.correct[:, 1:], reduction="none"
        )
        return (losses * self.weight[:, 1:]).sum(dim=1)


def run(
    repeats: int = 5, tuned: bool = True, shapes: Sequence[tuple[int, int, int]] = SHAPES
) -> BenchmarkResult:
    """Seconds a step and ratios by shape, with their geometric means in ``figures``.

    ``tuned`` sets glibc's allocator for all contenders alike.
    """
    allocator = "kept" if tuned and keep_freed_memory() else "default"
    rows: list[dict[str, float]] = []
    for learners, longest, hidden in shapes:
        seconds = interleaved(_contenders(learners, longest, hidden), repeats)
        rows.append(
            {
                "B": learners,
                "T": longest,
                "H": hidden,
                **{f"{name}_ms": 1000 * one for name, one in seconds.items()},
                "vs_opacus": seconds["opacus_hooks"] / seconds["ours_private"],
                "over_nn_lstm": seconds["ours_private"] / seconds["nn_lstm"],
                "over_floor": seconds["ours_private"] / seconds["gemm_floor"],
            }
        )
    suffix = "" if tuned else "_default_malloc"
    figures = {
        f"dp_step_{name}{suffix}": _geometric_mean([float(row[name]) for row in rows])
        for name in ("vs_opacus", "over_nn_lstm", "over_floor")
    }
    return BenchmarkResult(
        benchmark="dp-step", figures=figures, rows=tuple(rows), machine=machine(allocator)
    )


def _contenders(learners: int, longest: int, hidden: int) -> dict[str, "_Step"]:
    histories = _histories(learners, longest)
    return {
        "opacus_hooks": _opacus_step(_pad(histories), hidden),
        "nn_lstm": _plain_step(_pad(histories), hidden),
        "ours_private": _our_step(histories, hidden, NOISE),
        "ours_plain": _our_step(histories, hidden, 0.0),
        "gemm_floor": _floor(sum(map(len, histories)), hidden),
    }


def _histories(learners: int, longest: int) -> list[History]:
    """Ragged histories, uniform in length around FILL · longest, one of them the longest."""
    random = np.random.default_rng(0)
    lengths = random.integers(int((2 * FILL - 1) * longest), longest + 1, learners)
    lengths[0] = longest
    return [_history(int(length), random) for length in lengths]


def _history(length: int, random: np.random.Generator) -> History:
    skills = random.integers(0, SKILLS, length).astype(np.int32)
    correct = (random.random(length) < 0.6).astype(np.float32)
    return History(skills, skills[:, None], correct, np.arange(length, dtype=np.float64))


def _pad(histories: Sequence[History]) -> _Padded:
    shape = (len(histories), max(map(len, histories)))
    skill, correct, weight = torch.zeros(shape).long(), torch.zeros(shape), torch.zeros(shape)
    for row, history in enumerate(histories):
        skill[row, : len(history)] = torch.from_numpy(history.items).long()
        correct[row, : len(history)] = torch.from_numpy(history.correct)
        weight[row, : len(history)] = 1 / len(history)
    return _Padded(skill, correct, weight)


_Step = Callable[[], object]


def _opacus_step(data: _Padded, hidden: int) -> _Step:
    module = GradSampleModule(
        OneHotDkt(DPLSTM(2 * SKILLS, hidden, batch_first=True), hidden), loss_reduction="sum"
    )
    optimizer = DPOptimizer(
        torch.optim.SGD(module.parameters(), lr=RATE),
        noise_multiplier=NOISE,
        max_grad_norm=CLIP,
        expected_batch_size=len(data.skill),
        loss_reduction="mean",
    )

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(data.loss(module).sum())
        optimizer.step()

    return step


def _plain_step(data: _Padded, hidden: int) -> _Step:
    module = OneHotDkt(nn.LSTM(2 * SKILLS, hidden, batch_first=True), hidden)
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(data.loss(module).mean())
        optimizer.step()

    return step


def _our_step(histories: Sequence[History], hidden: int, noise_multiplier: float) -> _Step:
    spec = DktSpec(skills=SKILLS, hidden=hidden)
    random = np.random.default_rng(1)
    weights = {
        name: random.uniform(-0.1, 0.1, shape).astype(np.float32)
        for name, shape in spec.shapes().items()
    }
    task = Task(
        module=DktModule(spec, weights),
        spec=spec,
        kind=DktKind(),
        local=LocalTraining(learning_rate=RATE),
        mechanism=Mechanism(noise_multiplier=noise_multiplier, clip_norm=CLIP, sampling_rate=1.0),
        declared_size=len(histories),
        noise=SystemNoise(),
    )
    engine = PrivateEngine(task) if noise_multiplier else PlainEngine(task)
    return lambda: engine.step(histories)


def _floor(answers: int, hidden: int) -> _Step:
    """The recurrence's three products, forward, back to the state, back to the matrix, at once."""
    states, gates = torch.rand(answers, hidden), torch.rand(answers, 4 * hidden)
    matrix = torch.rand(hidden, 4 * hidden)

    def products() -> None:
        torch.mm(states, matrix)
        torch.mm(gates, matrix.t())
        torch.mm(states.t(), gates)

    return products


def _geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))
