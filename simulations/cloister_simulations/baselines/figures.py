"""Scores of evaluation histories as figures, over all of them and by institution."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from cloister_client.models.base import Scores
from cloister_simulations.result import Figures, Metrics


def figures_by_institution(
    scores: Sequence[Scores],
    institutions: Sequence[str],
    metrics: Callable[[Scores], Mapping[str, float]],
) -> Figures:
    """``metrics`` of all ``scores`` together and of each institution's.

    ``institutions`` names the institution of each history, in the order of ``scores``.
    """
    return Figures(
        all=dict(metrics(Scores.concatenate(scores))),
        by_institution=figures_by(scores, institutions, metrics),
    )


def figures_by(
    scores: Sequence[Scores],
    labels: Sequence[str],
    metrics: Callable[[Scores], Mapping[str, float]],
) -> dict[str, Metrics]:
    """``metrics`` of the ``scores`` of each label, sorted; ``labels`` are in their order."""
    parts: defaultdict[str, list[Scores]] = defaultdict(list)
    for label, one in zip(labels, scores, strict=True):
        parts[label].append(one)
    return {label: dict(metrics(Scores.concatenate(part))) for label, part in sorted(parts.items())}
