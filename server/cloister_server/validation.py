"""Which contributions count: form, signature, round, sender, finite, a norm that noise can have."""

import math
from typing import TypeVar

import numpy as np

from cloister_server.notary import Notary, RefusedError, RejectedError
from cloister_shared.compression import NORM_SLACK, Arrays, decode
from cloister_shared.messages import Contribution, MetricReport, Refusal, split, unpack
from cloister_shared.model_specs import Weights
from cloister_shared.plan import MetricPlan, ModelPlan, Plan
from cloister_shared.privacy.histograms import Floats

Answer = TypeVar("Answer", Contribution, MetricReport)

_ADAM_STEP = (1 - 0.9) / math.sqrt((1 - 0.999) * (1 - 0.9**2 / 0.999))
"""Most that one Adam step moves a coordinate, in learning rates, whatever the gradients were.

m = (1 − β₁) Σ β₁ᵏ gₖ is at most √v times this by Cauchy-Schwarz, where v = (1 − β₂) Σ β₂ᵏ gₖ²; the
corrections of the bias only lower it. (Kingma and Ba 2015, §2.1 bound a single gradient's step.)
"""


_HEADER_BYTES = 64 * 1024
"""Far more than a header and the names of a few arrays have."""
_NUMBER_BYTES = 4


def accept(
    body: bytes, plan: Plan, round_number: int, notary: Notary
) -> tuple[Contribution, dict[str, Weights]]:
    """A contribution that counts, with its deltas by model kind, or ``RejectedError``."""
    models = plan.active(round_number)
    _check_length(body, sum(model.spec.dimension for model in models))
    header, arrays = _answered(body, Contribution, plan, round_number, models=models, notary=notary)
    slack = 1.0 if plan.compression == "none" else NORM_SLACK
    deltas: dict[str, Weights] = {}
    for model in models:
        delta = decode(arrays[model.spec.kind], model.spec, plan.compression)
        check_norm(delta, model, plan.declared_sizes[header.node], slack)
        deltas[model.spec.kind] = delta
    return header, deltas


def accept_metrics(
    body: bytes, plan: Plan, metrics: MetricPlan, round_number: int, notary: Notary
) -> tuple[MetricReport, dict[str, Floats]]:
    """A report that counts, with an array of histograms by model kind, or ``RejectedError``.

    Their length, and that they are finite, is all that can be checked: how many evaluation learners
    a node has is not public. Whatever float32 holds can be summed and squared in doubles.
    """
    models = plan.measured(round_number)
    _check_length(body, sum(math.prod(metrics.shape(model.spec.outcome)) for model in models))
    header, arrays = _answered(body, MetricReport, plan, round_number, models=models, notary=notary)
    histograms: dict[str, Floats] = {}
    for model in models:
        kind, length = model.spec.kind, math.prod(metrics.shape(model.spec.outcome))
        histogram = arrays[kind].get("histogram", np.zeros(0, np.float32))
        is_row = histogram.shape == (length,) and histogram.dtype == np.float32
        if not (is_row and np.isfinite(histogram).all()):
            raise RejectedError(f"{kind}: is not {length} finite numbers of float32")
        histograms[kind] = histogram.astype(np.float64)
    return header, histograms


def _check_length(body: bytes, numbers: int) -> None:
    """Refuse an answer unread that has more bytes than so many numbers: to read it takes long."""
    most = _HEADER_BYTES + _NUMBER_BYTES * numbers
    if len(body) > most:
        raise RejectedError(f"has {len(body)} bytes, and {most} at the most are of such an answer")


def _answered(
    body: bytes,
    wanted: type[Answer],
    plan: Plan,
    round_number: int,
    *,
    models: tuple[ModelPlan, ...],
    notary: Notary,
) -> tuple[Answer, dict[str, Arrays]]:
    """An answer of a node of the plan to this round, with arrays for each of ``models``."""
    message: tuple[Answer | Refusal, Arrays] = unpack(body, wanted, Refusal)
    header, arrays = message
    notary.check(header, arrays)
    if isinstance(header, Refusal):
        raise RefusedError(header)
    notary.check_head(header, plan.run)
    if (header.plan, header.round) != (plan.digest, round_number):
        raise RejectedError("answers another plan or round")
    if header.node not in plan.declared_sizes:
        raise RejectedError("is not a node of this plan")
    by_kind = split(arrays)
    if by_kind.keys() != {model.spec.kind for model in models}:
        raise RejectedError(f"holds {sorted(by_kind)} instead of this round's models")
    return header, by_kind


def check_norm(delta: Weights, model: ModelPlan, declared_size: int, slack: float = 1.0) -> None:
    """Raise ``RejectedError`` if ``delta`` is longer than ``slack`` times what the plan allows."""
    norm = math.sqrt(sum(float(np.sum(np.square(a, dtype=np.float64))) for a in delta.values()))
    bound = slack * norm_bound(model, declared_size)
    if norm > bound:
        raise RejectedError(f"{model.spec.kind}: norm {norm:.4g} is above the bound {bound:.4g}")


def norm_bound(model: ModelPlan, declared_size: int) -> float:
    """What an honest delta's L2 norm stays under, but with probability < 1e-12 a step.

    Plain descent moves by the learning rate times the noisy mean gradient; Adam moves every
    coordinate by at most a constant. The factor 1.01 covers float32 rounding.
    """
    local, dimension = model.local, model.spec.dimension
    if local.optimizer == "adam":
        step = _ADAM_STEP * math.sqrt(dimension)
    else:
        step = model.mechanism.step_norm_bound(dimension, declared_size)
    return 1.01 * local.learning_rate * local.steps * step
