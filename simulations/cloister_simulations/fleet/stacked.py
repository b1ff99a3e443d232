"""Models with weights of their own for every client, trained side by side.

A table of K clients is one table K times as long, into which a client's indices are shifted; a
matrix becomes K matrices, and its products batched ones.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cloister_client.models.base import Batch
from cloister_client.models.dkt import DktInputs, skill_practice_rows
from cloister_client.models.recommender import RecommenderInputs
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.model_specs.recommender import RecommenderSpec


class _Stack(nn.Module):
    """One weight of K clients; ``weight`` (K, *shape)."""

    def __init__(self, weight: np.ndarray, clients: int) -> None:
        super().__init__()
        one = torch.from_numpy(weight)
        self.weight = nn.Parameter(one.expand(clients, *one.shape).clone())

    def rows(self, clients: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """(R, ..., D) rows ``indices`` (R, ...) of the tables of ``clients`` (R,)."""
        _, size, width = self.weight.shape
        shift = (clients * size).view(-1, *[1] * (indices.dim() - 1))
        return functional.embedding(indices + shift, self.weight.view(-1, width))


class StackedModule(nn.Module):
    """Weights of K clients as parameters named as the spec's, and each row's loss."""

    @abstractmethod
    def losses(self, batch: Batch[Any], clients: torch.Tensor) -> torch.Tensor:
        """(rows,) losses; ``clients`` (rows,) says whose weights each row is for."""


class StackedRecommender(StackedModule):
    """Recommenders of K clients."""

    def __init__(self, spec: RecommenderSpec, weights: Weights, clients: int) -> None:
        super().__init__()
        self.factors = spec.factors
        self.source = _Stack(weights["source"], clients)
        self.target = _Stack(weights["target"], clients)

    def losses(self, batch: Batch[RecommenderInputs], clients: torch.Tensor) -> torch.Tensor:
        """(rows,) weighted softmax cross-entropy of the true items."""
        inputs = batch.inputs
        recent = self.source.rows(clients, inputs.recent)
        learner = (recent * inputs.recency.unsqueeze(-1)).sum(dim=2)
        target = self.target.rows(clients, inputs.candidates)
        scores = (target[..., : self.factors] * learner.unsqueeze(2)).sum(-1) + target[..., -1]
        return (-torch.log_softmax(scores, dim=-1)[..., 0] * inputs.weights).sum(dim=1)


class StackedDkt(StackedModule):
    """Knowledge tracers of K clients."""

    def __init__(self, spec: DktSpec, weights: Weights, clients: int) -> None:
        super().__init__()
        self.skills, self.hidden = spec.skills, spec.hidden
        self.input = _Stack(weights["input"], clients)
        self.recurrent = _Stack(weights["recurrent"], clients)
        self.output = _Stack(weights["output"], clients)
        self.item_bias = _Stack(weights["item_bias"], clients) if spec.items else None
        self.practice: _Stack | None = None
        if spec.practice:
            self.practice = _Stack(weights["practice"], clients)
            self.skill_practice = _Stack(weights["skill_practice"], clients)

    def losses(self, batch: Batch[DktInputs], clients: torch.Tensor) -> torch.Tensor:
        """(rows,) weighted cross-entropy in nats."""
        inputs = batch.inputs
        answers = inputs.skills + self.skills * inputs.correct.long().unsqueeze(-1)
        shares = inputs.shares.unsqueeze(-1)
        gates = (self.input.rows(clients, answers) * shares).sum(dim=2)
        places, most = _places(clients)
        grouped = gates.new_zeros(len(self.recurrent.weight) * most, *gates.shape[1:])
        grouped = grouped.index_copy(0, places, gates)
        grouped = grouped.view(-1, most, *gates.shape[1:])
        states: torch.Tensor = _Recurrence.apply(grouped, self.recurrent.weight)
        states = states.flatten(0, 1)[places]
        asked = (self.output.rows(clients, inputs.skills) * shares).sum(dim=2)
        logits = (asked[..., : self.hidden] * states).sum(dim=-1) + asked[..., self.hidden]
        if self.item_bias is not None:
            logits = logits + self.item_bias.rows(clients, inputs.items)[..., 0]
        if self.practice is not None:
            own = self.practice.weight[clients].squeeze(1)
            logits = logits + torch.einsum("rtf,rf->rt", inputs.practice, own)
            read = self.skill_practice.rows(clients, skill_practice_rows(inputs, self.skills))[
                ..., 0
            ]
            logits = logits + (read * inputs.skill_practice.flatten(2)).sum(dim=2)
        losses = functional.binary_cross_entropy_with_logits(
            logits, inputs.correct, reduction="none"
        )
        return (losses * inputs.weights).sum(dim=1)


class _Recurrence(torch.autograd.Function):
    """(K, r, T, H) states before each step of K LSTMs with r rows each.

    Of the gates' summands (K, r, T, 4H) and the matrices (K, 4H, H). See ``models.unrolled``.
    """

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
        hidden, steps = matrices.shape[2], inputs.shape[2]
        gates = inputs.permute(2, 0, 1, 3).contiguous()
        turned = matrices.transpose(1, 2).contiguous()
        for array in (gates, turned):
            array[..., 2 * hidden : 3 * hidden] *= 2
        shape = (*gates.shape[1:3], hidden)
        cells, states = (gates.new_zeros(steps + 1, *shape) for _ in range(2))
        for step in range(steps - 1):
            gate = gates[step].baddbmm_(states[step], turned).sigmoid_()
            enter, forget, doubled, leave = gate.chunk(4, dim=2)
            after = torch.mul(forget, cells[step], out=cells[step + 1])
            after.addcmul_(enter, doubled, value=2).sub_(enter)
            tanh = torch.sigmoid(2 * after).mul_(2).sub_(1)
            torch.mul(leave, tanh, out=states[step + 1])
        ctx.tape = gates, cells, states
        ctx.save_for_backward(matrices)
        return states[:-1].permute(1, 2, 0, 3)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (gates, cells, states), (matrices,) = ctx.tape, ctx.saved_tensors
        gradient = gradients[0].permute(2, 0, 1, 3)
        deltas = torch.zeros_like(gates)
        carried = torch.zeros_like(cells[0])
        for step in range(len(gates) - 2, -1, -1):
            state = torch.baddbmm(gradient[step + 1], deltas[step + 1], matrices)
            enter, forget, doubled, leave = gates[step].chunk(4, dim=2)
            tanh = torch.sigmoid(2 * cells[step + 1]).mul_(2).sub_(1)
            cell = carried + state * leave * (1 - tanh * tanh)
            parts = deltas[step].chunk(4, dim=2)
            slopes = torch.addcmul(gates[step], gates[step], gates[step], value=-1).chunk(4, dim=2)
            torch.mul(cell * (2 * doubled - 1), slopes[0], out=parts[0])
            torch.mul(cell * cells[step], slopes[1], out=parts[1])
            torch.mul(4 * cell * enter, slopes[2], out=parts[2])
            torch.mul(state * tanh, slopes[3], out=parts[3])
            carried = cell * forget
        by_client = deltas.permute(1, 3, 0, 2).flatten(2)
        of_matrices = torch.bmm(by_client, states[:-1].permute(1, 0, 2, 3).flatten(1, 2))
        return deltas.permute(1, 2, 0, 3), of_matrices


def _places(clients: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Where each row stands when clients stand in order with equally many places each; how many."""
    counts = torch.bincount(clients)
    most = int(counts.max())
    _, order = torch.sort(clients, stable=True)
    starts = torch.cumsum(counts, 0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - starts.repeat_interleave(counts)
    return clients * most + rank, most


STACKED: dict[str, Callable[[Any, Weights, int], StackedModule]] = {
    "dkt": StackedDkt,
    "recommender": StackedRecommender,
}
"""Makers of stacked models by kind: spec, common weights and number of clients in."""
