"""The ranking protocol, by cases small enough to rank by hand."""

from dataclasses import replace

import numpy as np
import pytest

from cloister_client.histories import History
from cloister_client.models.ranking import (
    queries,
    rank_queries,
    ranking_metrics,
    ranking_scores,
)

from ..learners import made_up_history


def with_items(*items: int) -> History:
    return replace(made_up_history(len(items), 1), items=np.array(items, dtype=np.int32))


def test_queries_are_the_first_meetings_after_the_first_answer():
    assert queries(with_items(4, 4, 2, 4, 0, 2)).tolist() == [2, 4]
    assert queries(with_items(4)).tolist() == []
    assert queries(with_items()).tolist() == []


def test_only_items_that_were_not_met_before_are_ranked():
    scores = np.array([[9.0, 5.0, 7.0, 8.0], [9.0, 5.0, 7.0, 8.0]])
    assert rank_queries(with_items(0, 3, 1), scores).tolist() == [1, 2]


def test_repeated_items_between_queries_count_as_met():
    scores = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    assert rank_queries(with_items(3, 3, 2, 3, 2, 0), scores).tolist() == [1, 2]


@pytest.mark.parametrize("score", [0.0, np.inf, -np.inf, np.nan])
def test_ties_count_half_so_a_constant_score_is_in_the_middle(score):
    scores = np.full((1, 6), score)
    assert rank_queries(with_items(0, 1), scores).tolist() == [3]


def test_a_score_that_is_not_a_number_is_the_lowest():
    assert rank_queries(with_items(0, 1), np.array([[0.0, np.nan, 1.0, 2.0]])).tolist() == [3]
    assert rank_queries(with_items(0, 1), np.array([[0.0, 1.0, np.nan, 2.0]])).tolist() == [2]


def test_hit_rate_gain_and_reciprocal_rank_by_hand():
    figures = ranking_metrics(ranking_scores(np.array([1.0, 3.0, 11.0])))
    assert figures["hr@10"] == pytest.approx(2 / 3)
    assert figures["ndcg@10"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert figures["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 11) / 3)


def test_no_queries_have_no_figures():
    figures = ranking_metrics(ranking_scores(np.zeros(0)))
    assert figures.keys() == {"hr@10", "ndcg@10", "mrr"}
    assert np.isnan(list(figures.values())).all()
