"""Which learners take part in a step, each client drawing by itself."""

from collections.abc import Callable, Sequence
from itertools import compress

from cloister_client.histories import History
from cloister_shared.plan import ModelPlan
from cloister_shared.privacy.noise import NoiseSource, bernoulli
from cloister_simulations.fleet.clients import Client

Learners = Sequence[History]
NoiseOf = Callable[[int], NoiseSource]
"""What a client draws from, by its number; made only where something is drawn."""


def sampled(
    clients: Sequence[Client[Learners]], noise: NoiseOf, model: ModelPlan
) -> list[Learners]:
    """The learners that take part in a step, by client."""
    rate = model.mechanism.sampling_rate
    if rate == 1:
        return [client.data for client in clients]
    return [
        list(compress(client.data, bernoulli(noise(client.number), rate, len(client.data))))
        for client in clients
    ]


def joined(drawn: Sequence[Learners]) -> Learners:
    """All learners, client by client."""
    return [history for some in drawn for history in some]
