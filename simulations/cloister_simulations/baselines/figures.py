"""Scores of evaluation histories as figures, over all of them and by institution."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from cloister_client.models.base import Scores
from cloister_simulations.result import Figures


def figures_by_institution(
    scores: Sequence[Scores],
    institutions: Sequence[str],
    metrics: Callable[[Scores], Mapping[str, float]],
) -> Figures:
    """``metrics`` of all ``scores`` together and of each institution's.

    ``institutions`` names the institution of each history, in the order of ``scores``.
    """
    parts: defaultdict[str, list[Scores]] = defaultdict(list)
    for institution, one in zip(institutions, scores, strict=True):
        parts[institution].append(one)
    return Figures(
        all=dict(metrics(Scores.concatenate(scores))),
        by_institution={
            institution: dict(metrics(Scores.concatenate(part)))
            for institution, part in sorted(parts.items())
        },
    )
