"""Exact figures on evaluation learners: simulation only, no node would release them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cloister_client.histories import History
from cloister_client.models import Scores, model_kind
from cloister_shared.model_specs import ModelSpec, Weights
from cloister_shared.privacy.figures import OTHER
from cloister_simulations.baselines.figures import figures_by, figures_by_institution
from cloister_simulations.result import Figures


@dataclass(frozen=True)
class Evaluator:
    """Evaluation histories, the institution of each, and which predictions of each count.

    ``groups`` has the group of each, where learners are in any.
    """

    histories: Sequence[History]
    institutions: Sequence[str]
    predictions: Literal["all", "last"] = "all"
    groups: Sequence[str | None] | None = None

    def shared(self, spec: ModelSpec, weights: Weights) -> Figures:
        """Figures of one model for all institutions."""
        return self.figures(spec, model_kind(spec).score(spec, weights, self.histories))

    def own(self, spec: ModelSpec, weights: Mapping[str, Weights]) -> Figures:
        """Figures where every institution has a model of its own."""
        scores = [
            model_kind(spec).score(spec, weights[institution], [history])[0]
            for history, institution in zip(self.histories, self.institutions, strict=True)
        ]
        return self.figures(spec, scores)

    def figures(self, spec: ModelSpec, scores: Sequence[Scores]) -> Figures:
        """Figures of any predictor's scores, one for each history."""
        if self.predictions == "last":
            scores = [Scores(one.targets[-1:], one.outputs[-1:]) for one in scores]
        metrics = model_kind(spec).metrics
        figures = figures_by_institution(scores, self.institutions, metrics)
        if self.groups is None:
            return figures
        names = [group or OTHER for group in self.groups]
        return figures.model_copy(update={"by_group": figures_by(scores, names, metrics)})
