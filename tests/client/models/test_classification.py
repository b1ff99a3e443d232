"""Our figures for right and wrong are scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from cloister_client.models import Scores
from cloister_client.models.classification import classification_metrics

# Few distinct probabilities, so that there are ties.
predictions = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 8).map(lambda eighths: eighths / 8)),
    min_size=1,
    max_size=40,
)


def scores(lines: list[tuple[int, float]]) -> Scores:
    targets, outputs = np.array(lines, dtype=np.float64).reshape(-1, 2).T
    return Scores(targets, outputs)


@settings(deadline=None)
@given(predictions)
def test_figures_equal_scikit_learns(lines):
    ours, targets, outputs = classification_metrics(scores(lines)), *zip(*lines, strict=True)
    if len(set(targets)) == 2:
        assert ours["auc"] == pytest.approx(metrics.roc_auc_score(targets, outputs))
    else:
        assert np.isnan(ours["auc"])
    clipped = np.clip(outputs, 1e-7, 1 - 1e-7)
    assert ours["log_loss"] == pytest.approx(metrics.log_loss(targets, clipped, labels=[0, 1]))
    right = metrics.accuracy_score(targets, np.array(outputs) >= 0.5)
    assert ours["accuracy"] == pytest.approx(right)


def test_no_predictions_have_no_figures():
    assert all(np.isnan(figure) for figure in classification_metrics(scores([])).values())
