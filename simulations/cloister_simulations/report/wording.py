"""Numbers and names as a reader sees them, the same on the page and in the terminal."""

import math

from cloister_simulations.result import Arm, Guarantee

MODEL_TITLES = {"dkt": "Knowledge tracer", "recommender": "Recommender"}
METRIC_TITLES = {"auc": "AUC", "log_loss": "log-loss", "mrr": "MRR"}
MISSING = "–"
NOT_PRIVATE = "none"


def title_of(kind: str) -> str:
    """What a reader calls a model kind; an unknown kind keeps its name."""
    return MODEL_TITLES.get(kind, label(kind))


def metric_title(metric: str) -> str:
    """``ndcg@10`` as ``NDCG@10``; an unknown metric keeps its name."""
    return METRIC_TITLES.get(metric, metric.upper() if "@" in metric else label(metric))


def label(name: str) -> str:
    """``local_only`` as ``local only``."""
    return name.replace("_", " ")


def bin_of(number: int, bins: int) -> str:
    """The bounds of one of ``bins`` equal parts of [0, 1], such as ``0.25 to 0.30``."""
    return f"{number / bins:.2f} to {(number + 1) / bins:.2f}"


def figure(value: float | None) -> str:
    """A metric with four decimals, or a dash where there is none."""
    return MISSING if value is None else f"{value:.4f}"


def difference(value: float | None) -> str:
    """A signed difference with four decimals."""
    return MISSING if value is None else f"{value:+.4f}".replace("-", "−")


def epsilon(value: float | None) -> str:
    """An ε that was spent, rounded up to two decimals lest it promise too much; none is ∞."""
    if value is None or math.isinf(value):
        return "∞"
    return f"{math.ceil(value * 100 - 1e-6) / 100:.2f}"


def limit(value: float | None) -> str:
    """A limit as it was set, such as ``4``, ``0.5`` or ``1e-06``."""
    return "∞" if value is None else f"{value:g}"


def seconds(value: float) -> str:
    """A duration such as ``7.1 s`` or ``12 min 05 s``."""
    if round(value, 1) < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"


def privacy_of(arm: Arm, guarantee: Guarantee) -> str:
    """What an arm's training promises learners, in a word or two."""
    if arm.private and guarantee.kind != "none" and arm.name == "federated":
        return "learner-level DP"
    return privacy_beside(arm.private, guarantee)


def privacy_beside(private: bool, guarantee: Guarantee) -> str:
    """What is promised by anything that stands beside the federated arm."""
    if not private:
        return NOT_PRIVATE
    return "noise only" if guarantee.kind == "none" else "DP, a budget of its own"
