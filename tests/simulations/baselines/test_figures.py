import numpy as np
import pytest

from cloister_client.models.base import Scores
from cloister_simulations.baselines.figures import figures_by_institution


def share_right(scores: Scores) -> dict[str, float]:
    return {"right": float(scores.targets.mean()) if len(scores.targets) else float("nan")}


def scores_of(*targets: int) -> Scores:
    return Scores(np.array(targets, dtype=np.float64), np.zeros(len(targets)))


def test_figures_are_of_all_answers_and_of_each_institutions():
    scores = [scores_of(1, 1), scores_of(0), scores_of(0)]
    figures = figures_by_institution(scores, ["b", "a", "b"], share_right)
    assert figures.all == {"right": 0.5}
    assert figures.by_institution == {"a": {"right": 0}, "b": {"right": pytest.approx(2 / 3)}}


def test_an_institution_without_predictions_has_no_figure():
    figures = figures_by_institution([scores_of(1), scores_of()], ["a", "b"], share_right)
    assert figures.by_institution["b"] == {"right": None}
