"""A round's knowledge tracers trained by a compiled kernel, each client by itself.

One client at a time, a client's own weights stay in the cache however many steps it takes, and only
the rows that it reads are copied; see ``kernels/clients.c``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cloister_client.histories import History, lengths_of
from cloister_client.kernels import loader
from cloister_client.kernels.clients import ClientWindows, Descent, train_clients
from cloister_client.kernels.threads import cores
from cloister_client.models.dkt import answers_of, shares_of
from cloister_client.models.windows import Windows, windows_of
from cloister_client.training.coefficients import TINY
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import ModelPlan
from cloister_simulations.fleet.clients import Client
from cloister_simulations.fleet.sampling import Learners, NoiseOf, joined, sampled


def compiled_trainer(model: ModelPlan) -> "CompiledTrainer | None":
    """The kernel's trainer where it knows the model and a client's steps use the same windows."""
    local, spec = model.local, model.spec
    same = model.mechanism.sampling_rate == 1 and local.max_windows is None
    plain = local.optimizer == "sgd" and (same or local.steps == 1)
    if isinstance(spec, DktSpec) and plain and loader.available(torch.float32):
        return CompiledTrainer(model, spec)
    return None


@dataclass(frozen=True)
class CompiledTrainer:
    """Plain descent of knowledge tracers on all cores, clipped where the plan has noise."""

    model: ModelPlan
    spec: DktSpec
    at_once: int = 1000

    def train(
        self, weights: Weights, clients: Sequence[Client[Learners]], noise: NoiseOf
    ) -> Weights:
        """See ``trainers.Trainer``."""
        mechanism, local = self.model.mechanism, self.model.local
        drawn = sampled(clients, noise, self.model)
        histories = joined(drawn)
        windows = windows_of(lengths_of(histories), local, noise(clients[0].number))
        owners = np.repeat(np.arange(len(clients)), [len(some) for some in drawn])
        sizes = np.array([client.declared_size for client in clients], dtype=np.float64)
        if local.steps == 1 and not mechanism.is_private:
            # One plain step is linear: a learner may stand alone, whoever's it is.
            owners, sizes = np.arange(len(histories)), np.ones(len(histories))
        clip = mechanism.clip_norm if mechanism.is_private else 0.0
        return train_clients(
            weights,
            _ClientsOf(windows, owners).laid_out(
                histories,
                self.spec,
                divisors=mechanism.sampling_rate * sizes,
                factors=np.ones_like(sizes) if mechanism.is_private else sizes,
            ),
            Descent(steps=local.steps, rate=local.learning_rate, clip=clip, tiny=TINY),
            threads=cores(),
        )


@dataclass(frozen=True)
class _ClientsOf:
    """Windows of histories, and ``owners`` (histories,): whose each history is."""

    windows: Windows
    owners: NDArray[np.int64]

    def laid_out(
        self,
        histories: Sequence[History],
        spec: DktSpec,
        divisors: NDArray[np.float64],
        factors: NDArray[np.float64],
    ) -> ClientWindows:
        """The windows client by client; ``divisors`` and ``factors`` are the clients'.

        Clients without a window, whose update is zero, are left out. The one with the longest
        window stands first, so that those that are run side by side are alike.
        """
        whole, practice, skill_practice = answers_of(spec, histories)
        owner = self.owners[self.windows.learners]
        clients, first, which, counts = np.unique(
            owner, return_index=True, return_inverse=True, return_counts=True
        )
        falling = np.argsort(first)
        order = np.argsort(np.argsort(falling)[which], kind="stable")
        asked = whole.skills.clip(min=0)
        return ClientWindows(
            clients=np.concatenate([[0], np.cumsum(counts[falling])]),
            starts=self.windows.starts[order],
            lengths=self.windows.lengths[order],
            weights=_single((self.windows.weights / divisors[owner])[order]),
            read=asked + spec.skills * whole.correct.astype(np.int32)[:, np.newaxis],
            asked=asked,
            shares=shares_of(whole),
            correct=whole.correct,
            items=whole.items,
            practice=practice,
            skill_practice=skill_practice,
            factors=_single(factors[clients[falling]]),
        )


def _single(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)
