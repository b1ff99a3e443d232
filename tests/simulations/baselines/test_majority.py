import numpy as np
import pytest

from cloister_client.models.base import Scores
from cloister_client.models.classification import classification_metrics
from cloister_simulations.baselines import predict_majority


def test_every_answer_but_the_first_gets_the_train_share_of_right_answers(curriculum, make_history):
    train = [make_history([0, 1, 2], [1, 1, 0]), make_history([3], [1])]
    scores = predict_majority(train, [make_history([0, 1, 2], [1, 0, 1])], curriculum)[0]
    np.testing.assert_array_equal(scores.outputs, [0.75, 0.75])
    np.testing.assert_array_equal(scores.targets, [0, 1])


def test_majority_has_no_discrimination_and_the_accuracy_of_the_commoner_class(
    curriculum, make_history
):
    evaluation = [make_history([0] * 5, [1, 1, 1, 1, 0])]
    scores = predict_majority([make_history([0], [1])], evaluation, curriculum)
    metrics = classification_metrics(Scores.concatenate(scores))
    assert (metrics["auc"], metrics["accuracy"]) == (0.5, 0.75)


@pytest.mark.parametrize("length", [0, 1])
def test_a_learner_without_a_second_answer_gets_no_prediction(curriculum, make_history, length):
    scores = predict_majority([], [make_history([0] * length)], curriculum)
    assert [len(one.outputs) for one in scores] == [0]
