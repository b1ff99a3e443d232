"""What every contender of the benchmark ``simulation`` trains: the job, its data and its module.

The peers' scripts import this file in environments without Cloister: it needs torch only.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import torch
from torch import nn
from torch.nn import functional

SKILLS, HIDDEN, ANSWERS = 100, 64, 50
"""DKT: skills, LSTM units, answers of each learner."""
PIXELS, CLASSES, SAMPLES = 784, 10, 60
"""Logistic regression in MNIST's shape: pixels, classes, samples of each client."""

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Job:
    """One federated training job, the same for every contender.

    In each of ``rounds`` rounds ``cohort`` of ``clients`` make ``epochs`` passes over their data in
    batches of ``batch`` samples (a learner's whole history is one sample of ``dkt``) by SGD with
    rate ``learning_rate``. With ``noise`` > 0 each update is clipped to ``clip`` (L2) and the sum
    gets one Gaussian noise of standard deviation noise · clip. ``processes`` is for the peers that
    let the user choose.
    """

    name: str
    model: str
    clients: int
    cohort: int
    epochs: int
    batch: int
    learning_rate: float
    clip: float
    noise: float
    rounds: int
    processes: int = 1


class Dkt(nn.Module):
    """Deep knowledge tracing as it is usually written: embedding, LSTM, a logit for every skill."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(2 * SKILLS, HIDDEN)
        self.lstm = nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
        self.output = nn.Linear(HIDDEN, SKILLS)

    def loss(self, skills: torch.Tensor, correct: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of all answers but the first; both arguments are (B, T)."""
        answered = skills + SKILLS * correct.long()
        states, _ = self.lstm(self.embedding(answered[:, :-1]))
        logits = self.output(states).gather(2, skills[:, 1:].unsqueeze(2)).squeeze(2)
        return functional.binary_cross_entropy_with_logits(logits, correct[:, 1:])


class LogisticRegression(nn.Module):
    """One linear layer from pixels to classes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(PIXELS, CLASSES)

    def loss(self, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy; ``pixels`` (B, 784), ``labels`` (B,)."""
        return functional.cross_entropy(self.linear(pixels), labels)


@cache
def make_module(job: Job) -> nn.Module:
    """The module that the job trains, one a process, with torch's own initial weights."""
    torch.manual_seed(0)
    return Dkt() if job.model == "dkt" else LogisticRegression()


@cache
def client_data(job: Job, client: int) -> Tensors:
    """Synthetic samples of one client, the first axis the samples; always the same, and kept."""
    random = torch.Generator().manual_seed(client)
    if job.model == "dkt":
        skills = torch.randint(0, SKILLS, (1, ANSWERS), generator=random)
        return skills, (torch.rand(1, ANSWERS, generator=random) < 0.6).float()
    pixels = torch.rand(SAMPLES, PIXELS, generator=random)
    return pixels, torch.randint(0, CLASSES, (SAMPLES,), generator=random)


def batches(job: Job, data: Tensors) -> Iterator[Tensors]:
    """The client's data ``epochs`` times, cut into batches."""
    for _ in range(job.epochs):
        for start in range(0, len(data[0]), job.batch):
            yield tuple(one[start : start + job.batch] for one in data)


def train_client(job: Job, module: nn.Module, data: Tensors) -> None:
    """One client's local steps, on the module in place."""
    optimizer = torch.optim.SGD(module.parameters(), lr=job.learning_rate)
    for batch in batches(job, data):
        optimizer.zero_grad()
        module.loss(*batch).backward()  # type: ignore[operator]
        optimizer.step()


def answer_job(work: Callable[[Job], Sequence[float]], libraries: Sequence[str]) -> None:
    """Do the job that stands on stdin as JSON and print the answer as one line of JSON.

    ``work`` returns when each round ended, by ``time.monotonic``. Whatever a library prints goes to
    stderr: stdout holds the answer only.
    """
    answer = os.dup(1)
    os.dup2(2, 1)
    ends = list(work(Job(**json.load(sys.stdin))))
    document = {"round_ends": ends, "versions": {one: version(one) for one in libraries}}
    with os.fdopen(answer, "w") as stream:
        stream.write(json.dumps(document) + "\n")
