"""The recommender: exact gradients per learner, public negatives, no look at the future."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cloister_client.histories import History
from cloister_client.models import Batch
from cloister_client.models.recommender import RecommenderKind
from cloister_shared.model_specs.recommender import RecommenderSpec
from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import SystemNoise

from ..learners import ITEMS, PairedNoise, made_up_history, random_weights
from .per_learner import Gradients, check_engine, check_opacus, make_batch

SPEC = RecommenderSpec(items=ITEMS, factors=3, lags=3, negatives=4)
KIND = RecommenderKind()


def with_items(*items: int) -> History:
    history = made_up_history(len(items), 1)
    return replace(history, items=np.array(items, dtype=np.int32))


def autograd_gradients(
    histories: Sequence[History], candidates: Sequence[Sequence[torch.Tensor]]
) -> Gradients:
    """Each learner's gradient of the mean loss over the items that are new to them.

    ``candidates``: what the batch drew, (1 + negatives,) for each query of each learner.
    """
    found = []
    for history, drawn in zip(histories, candidates, strict=True):
        source, target = (
            torch.tensor(random_weights(SPEC)[name], dtype=torch.float64, requires_grad=True)
            for name in ("source", "target")
        )
        items = history.items.tolist()
        new = [place for place in range(1, len(items)) if items[place] not in items[:place]]
        losses = []
        for query, place in enumerate(new):
            assert drawn[query][0] == items[place]
            latest = items[max(0, place - SPEC.lags) : place][::-1]
            vector = sum(SPEC.recency**lag * source[item] for lag, item in enumerate(latest))
            scores = target[drawn[query]][:, :-1] @ vector + target[drawn[query], -1]
            losses.append(torch.logsumexp(scores, dim=0) - scores[0])
        ((sum(losses) + 0 * (source.sum() + target.sum())) / max(len(losses), 1)).backward()
        found.append({"source": source.grad, "target": target.grad})
    return {
        name: torch.stack([one[name] for one in found]) if found else torch.zeros(0, *shape)
        for name, shape in SPEC.shapes().items()
    }


def drawn_candidates(batch: Batch, histories: Sequence[History]) -> list[list[torch.Tensor]]:
    """(queries, 1 + negatives) of each learner; a query's first one is what they met next."""
    found = []
    for learner, history in enumerate(histories):
        rows = batch.inputs.candidates[batch.learner_of_row == learner]
        asked = batch.inputs.weights[batch.learner_of_row == learner] > 0
        met = {int(one[0]): one for one in rows[asked]}
        new = dict.fromkeys(history.items[1:].tolist())
        found.append([met[item] for item in new if item in met])
    return found


@st.composite
def trained(draw) -> tuple[list[History], LocalTraining]:
    seed, local = draw(st.integers(0, 99)), LocalTraining(window=draw(st.sampled_from([2, 5, 50])))
    lengths = draw(st.lists(st.integers(0, 15), max_size=5))
    return [made_up_history(length, seed) for length in lengths], local


@settings(max_examples=30, deadline=None)
@given(trained())
def test_gradients_norms_and_the_clipped_sum_equal_an_autograd_loop_over_learners(case):
    histories, local = case
    batch = make_batch(SPEC, histories, local)
    reference = autograd_gradients(histories, drawn_candidates(batch, histories))
    check_engine(SPEC, random_weights(SPEC), batch, reference)


@settings(max_examples=20, deadline=None)
@given(trained())
def test_opacuss_hooks_and_ghost_clipping_give_the_same_through_our_leaves(case):
    histories, local = case
    batch = make_batch(SPEC, histories, local)
    reference = autograd_gradients(histories, drawn_candidates(batch, histories))
    check_opacus(SPEC, random_weights(SPEC), batch, reference)


def test_windows_of_a_learner_add_up_to_their_mean_loss():
    history = with_items(*range(ITEMS))
    batch = make_batch(SPEC, [history, with_items(3, 4)], LocalTraining(window=4))
    zeros = {name: np.zeros_like(weight) for name, weight in random_weights(SPEC).items()}
    losses = KIND.loss(KIND.build(SPEC, zeros), batch)
    sums = torch.zeros(2).index_add_(0, batch.learner_of_row, losses)
    assert batch.learner_of_row.tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(sums.detach(), np.log(1 + SPEC.negatives), rtol=1e-6)


@pytest.mark.parametrize("place", range(1, 8))
def test_no_item_is_known_before_it_is_met(place):
    before, after = with_items(0, 1, 2, 3, 4, 5, 6, 7), [0, 1, 2, 3, 4, 5, 6, 7]
    after[place] = 11
    batches = [make_batch(SPEC, [one], LocalTraining()) for one in (before, with_items(*after))]
    one, other = (batch.inputs for batch in batches)
    queries_until = place  # the query about position p stands in line p - 1
    assert torch.equal(one.recent[:, :queries_until], other.recent[:, :queries_until])
    scores = [
        KIND.build(SPEC, random_weights(SPEC))(replace(inputs, candidates=one.candidates))
        for inputs in (one, other)
    ]
    assert torch.equal(scores[0][:, :queries_until], scores[1][:, :queries_until])
    assert place == 7 or not torch.equal(scores[0], scores[1])


def test_negatives_are_uniform_over_the_whole_catalogue():
    batch = KIND.batch(SPEC, [with_items(0, 1)] * 3000, LocalTraining(), SystemNoise())
    counts = np.bincount(batch.inputs.candidates[..., 1:].flatten(), minlength=ITEMS)
    assert stats.chisquare(counts).pvalue > 1e-6


def test_negatives_do_not_depend_on_what_other_learners_did():
    mine = with_items(0, 1, 2)
    drawn = [
        KIND.batch(SPEC, [mine, other], LocalTraining(), PairedNoise(1)).inputs.candidates[..., 1:]
        for other in (with_items(0, 1, 2), with_items(9, 8, 7))
    ]
    assert torch.equal(*drawn)


def test_a_learner_who_met_one_item_only_has_no_row():
    histories = [with_items(), with_items(5), with_items(5, 5, 5)]
    assert len(make_batch(SPEC, histories, LocalTraining()).learner_of_row) == 0
    batch = make_batch(SPEC, [*histories, with_items(1, 2)], LocalTraining())
    assert batch.learner_of_row.tolist() == [3]


def test_scores_are_ranks_over_the_items_that_are_new_to_the_learner():
    weights = {name: np.zeros_like(weight) for name, weight in random_weights(SPEC).items()}
    weights["target"][:, -1] = -np.arange(ITEMS)
    scores = KIND.score(SPEC, weights, [with_items(0, 1, 3, 1, 2), with_items(), with_items(4)])
    assert [one.outputs.tolist() for one in scores] == [[1, 2, 1], [], []]


def test_the_module_and_the_evaluation_score_alike():
    weights, history = random_weights(SPEC), with_items(0, 3, 5, 2)
    batch = make_batch(SPEC, [history], LocalTraining())
    everything = torch.arange(ITEMS).expand(1, 3, ITEMS)
    scores = KIND.build(SPEC, weights)(replace(batch.inputs, candidates=everything))[0]
    ranks = []
    for query, place in enumerate((1, 2, 3)):
        new = [item for item in range(ITEMS) if item not in history.items[:place]]
        own = scores[query, history.items[place]]
        ranks.append(1 + sum(bool(scores[query, item] > own) for item in new))
    assert KIND.score(SPEC, weights, [history])[0].outputs.tolist() == ranks
