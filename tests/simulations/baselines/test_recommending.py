import numpy as np
import pytest

from cloister_simulations.baselines import (
    rank_by_item_knn,
    rank_by_markov,
    rank_by_matrix_factorization,
    rank_by_popularity,
)
from cloister_simulations.baselines.item_knn import item_similarity
from cloister_simulations.baselines.markov import transition_counts
from cloister_simulations.baselines.popularity import learners_by_item
from cloister_simulations.baselines.recommending import (
    learner_item_matrix,
    met_before,
    recency_weights,
)


def test_a_learner_counts_once_for_an_item_however_often_they_met_it(make_history):
    train = [make_history([0, 0, 1, 0]), make_history([1, 2])]
    np.testing.assert_array_equal(learners_by_item(train, 5), [1, 2, 1, 0, 0])
    np.testing.assert_array_equal(
        learner_item_matrix(train, 5).toarray(), [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0]]
    )


def test_popularity_ranks_new_items_by_learners_with_ties_halved(curriculum, make_history):
    train = [make_history([0, 1]), make_history([1, 2])]
    # After 1: left are 0 and 2 (one learner each), 3 and 4 (none). After 1, 0, 0: 2 is the first.
    scores = rank_by_popularity(train, [make_history([1, 0, 0, 2])], curriculum)[0]
    np.testing.assert_array_equal(scores.outputs, [1.5, 1])


def test_recency_weights_fall_by_lag_and_stop_at_the_first_answer(make_history):
    weights = recency_weights(make_history([0, 1, 1, 2]), np.array([1, 3]), 5, 3, 0.5)
    np.testing.assert_array_equal(weights.toarray(), [[1, 0, 0, 0, 0], [0.25, 1.5, 0, 0, 0]])


def test_similarity_is_the_cosine_of_the_items_learners(make_history):
    train = [make_history([0, 1]), make_history([0, 1, 2]), make_history([0, 3])]
    similarity = item_similarity(train, 5, neighbours=4).toarray()
    np.testing.assert_allclose(
        similarity[0], [0, 2 / np.sqrt(6), 1 / np.sqrt(3), 1 / np.sqrt(3), 0], atol=1e-12
    )


def test_only_the_nearest_neighbours_are_kept(make_history):
    train = [make_history([0, 1]), make_history([0, 1, 2]), make_history([0, 3])]
    similarity = item_similarity(train, 5, neighbours=1).toarray()
    assert np.flatnonzero(similarity[0]).tolist() == [1]


def test_a_catalogue_of_one_item_has_no_neighbours(make_history):
    assert item_similarity([make_history([0])], 1, neighbours=5).nnz == 0


def test_item_knn_puts_first_what_was_met_with_the_last_item(curriculum, make_history):
    train = [make_history([0, 1])] * 2 + [make_history([2, 3])] * 3
    scores = rank_by_item_knn(train, [make_history([2, 3]), make_history([0, 1])], curriculum)
    assert [one.outputs.tolist() for one in scores] == [[1], [1]]


def test_transitions_count_consecutive_answers(make_history):
    counts = transition_counts([make_history([0, 1, 0, 1]), make_history([3])], 5).toarray()
    assert counts[0, 1] == 2
    assert counts[1, 0] == 1
    assert counts.sum() == 3


def test_markov_ranks_by_transitions_then_by_popularity(curriculum, make_history):
    train = [make_history([0, 2]), make_history([0, 2]), make_history([0, 1]), make_history([3])]
    # After 0: 2 (twice), 1 (once), then 3 (one learner) before 4 (none).
    evaluation = [make_history([0, item]) for item in (2, 1, 3, 4)]
    ranks = [one.outputs[0] for one in rank_by_markov(train, evaluation, curriculum)]
    assert ranks == [1, 2, 3, 4]


def test_an_item_is_met_before_a_position_from_its_first_meeting_on(make_history):
    met = met_before(make_history([3, 0, 3, 1]), np.array([1, 2, 3]), 5)
    np.testing.assert_array_equal(
        met.toarray(), [[0, 0, 0, 1, 0], [1, 0, 0, 1, 0], [1, 0, 0, 1, 0]]
    )


def test_matrix_factorization_puts_first_what_was_met_by_those_who_met_the_same(
    curriculum, make_history
):
    train = [make_history([0, 1])] * 20 + [make_history([2, 3])] * 30
    evaluation = [make_history([2, 3]), make_history([1, 0]), make_history([4, 0, 1])]
    scores = rank_by_matrix_factorization(train, evaluation, curriculum)
    assert scores[0].outputs.tolist() == scores[1].outputs.tolist() == [1]
    assert scores[2].outputs[1] == 1


def test_matrix_factorization_is_the_same_every_time(curriculum, make_history):
    train = [make_history([0, 1, 2]), make_history([2, 3]), make_history([4, 1])]
    once, again = (
        rank_by_matrix_factorization(train, train, curriculum, factors=3) for _ in range(2)
    )
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one.outputs, other.outputs)


@pytest.mark.parametrize(
    "rank",
    [rank_by_popularity, rank_by_item_knn, rank_by_markov, rank_by_matrix_factorization],
)
def test_without_train_learners_every_new_item_is_as_likely(curriculum, make_history, rank):
    scores = rank([], [make_history([0, 1]), make_history([0, 0]), make_history([])], curriculum)
    assert [one.outputs.tolist() for one in scores] == [[2.5], [], []]
