"""The usual loop without privacy: one-hot answers, torch's ``nn.LSTM``, logits of every skill."""

import torch
from torch import nn
from torch.nn import functional

from cloister_simulations.benchmarks.dp_step.workload import (
    RATE,
    SKILLS,
    Padded,
    Shape,
    histories,
    pad,
)


class OneHotDkt(nn.Module):
    """DKT as it is usually written (Piech et al. 2015), around any LSTM of batches first."""

    def __init__(self, lstm: nn.Module, hidden: int) -> None:
        super().__init__()
        self.lstm, self.output = lstm, nn.Linear(hidden, SKILLS)

    def forward(self, answered: torch.Tensor) -> torch.Tensor:
        """(B, T, skills) logits after each answer; ``answered`` (B, T, 2 · skills) one-hot."""
        states, _ = self.lstm(answered)
        logits: torch.Tensor = self.output(states)
        return logits


def losses(module: nn.Module, data: Padded) -> torch.Tensor:
    """(B,) mean loss within each learner, of every answer but the first."""
    answered = functional.one_hot(data.skill + SKILLS * data.correct.long(), 2 * SKILLS).float()
    logits = module(answered)[:, :-1].gather(2, data.skill[:, 1:].unsqueeze(2)).squeeze(2)
    each = functional.binary_cross_entropy_with_logits(
        logits, data.correct[:, 1:], reduction="none"
    )
    return (each * data.weight[:, 1:]).sum(dim=1)


class NonPrivate:
    """``nn.LSTM`` and SGD."""

    def __init__(self, shape: Shape) -> None:
        self.data = pad(histories(shape))
        lstm = nn.LSTM(2 * SKILLS, shape.hidden, batch_first=True)
        self.module = OneHotDkt(lstm, shape.hidden)
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=RATE)

    def step(self) -> None:
        """One SGD step on the mean over learners."""
        self.optimizer.zero_grad()
        torch.autograd.backward(losses(self.module, self.data).mean())
        self.optimizer.step()
