"""Figures for right/wrong predictions, the same for the tracer and the baselines."""

import numpy as np

from cloister_client.models.base import Scores


def classification_metrics(scores: Scores) -> dict[str, float]:
    """AUC, accuracy at 0.5 and log-loss (nats); NaN where a class is missing."""
    labels, probabilities = scores.targets, np.clip(scores.outputs, 1e-7, 1 - 1e-7)
    if not len(labels):
        return {"auc": float("nan"), "accuracy": float("nan"), "log_loss": float("nan")}
    loss = -np.where(labels > 0.5, np.log(probabilities), np.log1p(-probabilities))
    return {
        "auc": auc(scores),
        "accuracy": float(((probabilities >= 0.5) == (labels > 0.5)).mean()),
        "log_loss": float(loss.mean()),
    }


def auc(scores: Scores) -> float:
    """Area under the ROC curve by ranks, ties counted half (Mann and Whitney 1947)."""
    positive = scores.targets > 0.5
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, inverse, counts = np.unique(scores.outputs, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = mean_rank[inverse][positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
