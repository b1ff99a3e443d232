import numpy as np
import pytest

from cloister_client.histories import History
from cloister_client.models.base import Scores
from cloister_client.models.classification import auc
from cloister_simulations.baselines import predict_best_lr
from cloister_simulations.baselines.best_lr import answer_features

LOG2, LOG3 = np.log(2), np.log(3)


def test_features_count_only_earlier_answers_by_skill_and_in_all(curriculum, make_history):
    history = make_history([0, 1, 2, 4], [1, 0, 1, 1])
    features = answer_features([history], curriculum, item_effects=False).toarray()
    #        skill 0, 1 | right on 0, 1 | wrong on 0, 1 | right and wrong in all
    expected = [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 0, LOG2, 0, 0, 0, LOG2, 0],
        [0, 1, 0, 0, 0, 0, LOG2, LOG2],
        [1, 1, LOG2, LOG2, LOG2, 0, LOG3, LOG2],
    ]
    np.testing.assert_allclose(features, expected)


def test_learners_do_not_share_their_counts(curriculum, make_history):
    one, other = make_history([0, 0], [1, 1]), make_history([0, 1], [0, 1])
    together = answer_features([one, other], curriculum, item_effects=True).toarray()
    apart = [answer_features([one_], curriculum, item_effects=True) for one_ in (one, other)]
    np.testing.assert_array_equal(together, np.vstack([part.toarray() for part in apart]))


def test_item_effects_add_a_column_for_each_item(curriculum, make_history):
    features = answer_features([make_history([3, 0])], curriculum, item_effects=True)
    np.testing.assert_array_equal(features.toarray()[:, -5:], np.eye(5)[[3, 0]])


def test_a_skill_named_twice_in_one_answer_counts_once(curriculum, make_history):
    plain = make_history([0, 0], [1, 1])
    twice = History(plain.items, np.zeros((2, 2), dtype=np.int32), plain.correct, plain.when)
    features = [answer_features([one], curriculum, False).toarray() for one in (plain, twice)]
    np.testing.assert_array_equal(*features)


def test_best_lr_tells_able_learners_from_others(curriculum, make_history):
    learners = [make_history([0, 2] * 10, [ability] * 20) for ability in (0, 1)] * 5
    scores = Scores.concatenate(predict_best_lr(learners, learners, curriculum))
    assert auc(scores) == 1


def test_only_item_effects_see_items_of_one_skill_apart(curriculum, make_history):
    """Item 0 is always right, item 1 always wrong, so that counts say nothing of what comes."""
    train = [make_history([first, 1 - first], [1 - first, first]) for first in (0, 1)] * 20
    target = [make_history([0, 0], [1, 1]), make_history([0, 1], [1, 0])]
    with_items, without = (
        [one.outputs[0] for one in predict_best_lr(train, target, curriculum, item_effects=on)]
        for on in (True, False)
    )
    assert with_items[0] > 0.8
    assert with_items[1] < 0.2
    assert without[0] == without[1]


@pytest.mark.parametrize(("answer", "expected"), [(1, 1.0), (0, 0.0)])
def test_train_answers_that_are_all_alike_give_the_constant(
    curriculum, make_history, answer, expected
):
    history = make_history([0, 1], [answer, answer])
    assert predict_best_lr([history], [history], curriculum)[0].outputs == [expected]


def test_no_evaluation_learners_give_no_scores(curriculum, make_history):
    assert predict_best_lr([make_history([0, 0], [1, 0])], [], curriculum) == []
