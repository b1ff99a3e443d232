"""The numpy recommender against the trained module and against its definition."""

import numpy as np
import pytest

from cloister_client.personalization.ranker import Ranker
from cloister_shared.model_specs.recommender import RecommenderSpec

SPEC = RecommenderSpec(items=20, factors=6, recency=0.7, lags=3)


@pytest.fixture
def weights():
    random = np.random.default_rng(0)
    return {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in SPEC.shapes().items()
    }


@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_what_is_served_is_what_was_trained(weights, length: int):
    import torch

    from cloister_client.models.recommender import RecommenderInputs, RecommenderModule

    items = np.random.default_rng(length).integers(0, 20, length).astype(np.int32)
    latest = items[::-1][:3].copy()
    inputs = RecommenderInputs(
        recent=torch.from_numpy(latest).long().view(1, 1, -1),
        recency=torch.tensor([0.7**lag for lag in range(len(latest))]).view(1, 1, -1),
        candidates=torch.arange(20).view(1, 1, -1),
        weights=torch.ones(1, 1),
    )
    trained = RecommenderModule(weights)(inputs).detach().numpy()[0, 0]
    np.testing.assert_allclose(Ranker(SPEC, weights).scores(items), trained, atol=1e-5)


def test_without_answers_the_biases_rank(weights):
    scores = Ranker(SPEC, weights).scores(np.zeros(0, dtype=np.int32))
    np.testing.assert_array_equal(scores, weights["target"][:, -1])


def test_influences_and_bias_add_up_to_the_score(weights):
    ranker = Ranker(SPEC, weights)
    items = np.array([4, 8, 15, 16, 7], dtype=np.int32)
    influences = ranker.influences(items, candidate=2)
    assert len(influences) == SPEC.lags
    bias = weights["target"][2, -1]
    np.testing.assert_allclose(influences.sum() + bias, ranker.scores(items)[2], rtol=1e-5)
