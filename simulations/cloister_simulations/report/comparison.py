"""Which arms and baselines stand side by side, on which metric, at which institutions."""

from dataclasses import dataclass

from cloister_simulations.report.wording import label, privacy_beside, privacy_of
from cloister_simulations.result import Figures, SimulationResult

MAIN_METRICS = {"dkt": "auc", "recommender": "ndcg@10"}
REFERENCE_ARM = "pooled"
MOST_INSTITUTIONS = 20
"""So many are shown one by one; the JSON document has them all."""


@dataclass(frozen=True)
class Contender:
    """An arm or a baseline with its final figures for one model kind."""

    name: str
    privacy: str
    figures: Figures
    is_baseline: bool

    @property
    def label(self) -> str:
        """The name for a reader."""
        return f"{label(self.name)} (baseline)" if self.is_baseline else label(self.name)


def contenders(result: SimulationResult, kind: str) -> list[Contender]:
    """Arms, then baselines, that have final figures for ``kind``."""
    arms = [
        Contender(arm.name, privacy_of(arm, result.guarantee), arm.final[kind], False)
        for arm in result.arms
        if kind in arm.final
    ]
    baselines = [
        Contender(
            name, privacy_beside(name in result.private_baselines, result.guarantee), figures, True
        )
        for name, figures in result.baselines.get(kind, {}).items()
    ]
    return arms + baselines


def main_metric(result: SimulationResult, kind: str) -> str:
    """The metric that plots show: AUC, NDCG@10, or a further kind's first; more is better."""
    known = [metric for one in contenders(result, kind) for metric in one.figures.all]
    preferred = MAIN_METRICS.get(kind, "")
    return preferred if preferred in known or not known else known[0]


def best_baseline(result: SimulationResult, kind: str) -> Contender | None:
    """The baseline with the highest main metric."""
    metric = main_metric(result, kind)
    scored = [
        (value, one)
        for one in contenders(result, kind)
        if one.is_baseline and (value := one.figures.all.get(metric)) is not None
    ]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def shown_institutions(result: SimulationResult) -> list[str]:
    """Names of the nodes with the largest declared sizes, in the document's order."""
    by_size = sorted(result.nodes, key=lambda node: -node.declared_size)[:MOST_INSTITUTIONS]
    largest = {node.name for node in by_size}
    return [node.name for node in result.nodes if node.name in largest]
