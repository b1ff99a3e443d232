"""DKT: the model that the spec describes, one exact gradient a learner, no look at the future."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits

from cloister_client.histories import History
from cloister_client.models import dkt
from cloister_client.models.dkt import DktKind, practice_of
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import LocalTraining

from ..learners import ITEMS, SKILLS, made_up_history, random_weights
from .per_learner import Gradients, check_engine, check_opacus, make_batch

SPEC = DktSpec(skills=SKILLS, hidden=4)
WIDE = DktSpec(skills=SKILLS, hidden=3, items=ITEMS, practice=True)
WEIGHTS = random_weights(SPEC)

lengths = st.lists(st.integers(0, 12), max_size=6)


def reference_logits(
    spec: DktSpec,
    weights: dict[str, torch.Tensor],
    whole: History,
    start: int = 0,
    end: int | None = None,
) -> torch.Tensor:
    """(n,) logits by ``torch.nn.LSTM`` over a window of one learner's answers, nothing padded."""
    history = whole[start:end]
    skills, hidden = weights["output"].shape[0], weights["recurrent"].shape[1]
    gates, asked = [], []
    for row, correct in zip(history.skills, history.correct, strict=True):
        known = torch.tensor(row[row >= 0], dtype=torch.int64)
        share = 1 / max(len(known), 1)
        gates.append(share * weights["input"][known + skills * int(correct)].sum(dim=0))
        asked.append(share * weights["output"][known].sum(dim=0))
    lstm = nn.LSTM(4 * hidden, hidden, bias=False, dtype=torch.float64)
    matrices = {
        "weight_ih_l0": torch.eye(4 * hidden, dtype=torch.float64),
        "weight_hh_l0": weights["recurrent"],
    }
    states, _ = functional_call(lstm, matrices, (torch.stack(gates),))
    before = torch.cat([states.new_zeros(1, hidden), states[:-1]])
    read_out = torch.stack(asked)
    logits = (read_out[:, :hidden] * before).sum(dim=1) + read_out[:, hidden]
    if "item_bias" in weights:
        logits = logits + weights["item_bias"][torch.tensor(history.items).long(), 0]
    if "practice" in weights:
        features = practice_of(spec, whole, np.zeros(len(whole), np.int64))
        shared, own = (torch.tensor(part[start:end]).double() for part in features)
        logits = logits + shared @ weights["practice"][0]
        of_skills = weights["skill_practice"].view(-1, skills)[:, np.maximum(history.skills, 0)]
        logits = logits + torch.einsum("fns,nfs->n", of_skills, own)
    return logits


def autograd_gradients(
    spec: DktSpec, histories: Sequence[History], local: LocalTraining
) -> Gradients:
    """Each learner's gradient of their own mean loss, learner by learner."""
    window = local.window
    found = []
    for history in histories:
        weights = {
            name: torch.tensor(array, dtype=torch.float64, requires_grad=True)
            for name, array in random_weights(spec).items()
        }
        losses = [
            binary_cross_entropy_with_logits(
                reference_logits(spec, weights, history, start, start + window),
                torch.tensor(history.correct[start : start + window]).double(),
                reduction="sum",
            )
            for start in range(0, len(history), window)
        ]
        if losses:
            (sum(losses) / (local.loss_divisor or len(history))).backward()
        found.append(
            {
                name: torch.zeros_like(weight) if weight.grad is None else weight.grad
                for name, weight in weights.items()
            }
        )
    return {
        name: torch.stack([one[name] for one in found]) if found else torch.zeros(0, *shape)
        for name, shape in spec.shapes().items()
    }


def logits(spec: DktSpec, histories: Sequence[History], window: int = 200) -> list[np.ndarray]:
    """Logits per history, in the order of ``histories``."""
    batch = make_batch(spec, histories, LocalTraining(window=window))
    with torch.no_grad():
        rows = DktKind().build(spec, random_weights(spec))(batch.inputs).numpy()
    found = [np.zeros(0)] * len(histories)
    for learner, row in zip(batch.learner_of_row.tolist(), rows, strict=True):
        found[learner] = row[: len(histories[learner])]
    return found


@settings(max_examples=12, deadline=None)
@given(lengths=lengths, seed=st.integers(0, 99), most_skills=st.integers(1, 3))
def test_logits_are_those_of_an_lstm_from_torch(lengths, seed, most_skills):
    for spec in (SPEC, WIDE):
        weights = {name: torch.tensor(w).double() for name, w in random_weights(spec).items()}
        histories = [made_up_history(length, seed, most_skills) for length in [*lengths, 1]]
        for history, ours in zip(histories, logits(spec, histories), strict=True):
            if len(history):
                np.testing.assert_allclose(
                    ours, reference_logits(spec, weights, history), atol=1e-5
                )


SPECS = {
    "deep": SPEC,
    "items": DktSpec(skills=SKILLS, hidden=2, items=ITEMS),
    "practice": DktSpec(skills=SKILLS, hidden=1, practice=True, practice_scale=0.25, skill_scale=2),
    "all": WIDE,
}


@st.composite
def trained(draw) -> tuple[DktSpec, list[History], LocalTraining]:
    """A spec, learners with none to three skills an answer, and how they are cut into windows."""
    seed, most_skills = draw(st.integers(0, 99)), draw(st.integers(1, 3))
    local = draw(
        st.sampled_from(
            [
                LocalTraining(window=50),
                LocalTraining(window=4),
                LocalTraining(window=2, loss_divisor=8),
            ]
        )
    )
    histories = [made_up_history(length, seed, most_skills) for length in draw(lengths)]
    return SPECS[draw(st.sampled_from(sorted(SPECS)))], histories, local


@settings(max_examples=40, deadline=None)
@given(trained())
def test_gradients_norms_and_the_clipped_sum_equal_an_autograd_loop_over_learners(case):
    spec, histories, local = case
    batch = make_batch(spec, histories, local)
    check_engine(spec, random_weights(spec), batch, autograd_gradients(spec, histories, local))


@settings(max_examples=20, deadline=None)
@given(trained())
def test_opacuss_hooks_and_ghost_clipping_give_the_same_through_our_leaves(case):
    spec, histories, local = case
    batch = make_batch(spec, histories, local)
    check_opacus(spec, random_weights(spec), batch, autograd_gradients(spec, histories, local))


@pytest.mark.parametrize("hidden", [16, 33])
def test_gradients_are_exact_for_many_learners_of_very_different_length(hidden):
    spec = DktSpec(skills=SKILLS, hidden=hidden)
    histories = [made_up_history(answers, answers) for answers in (*range(1, 45, 3), 1, 1, 130)]
    local = LocalTraining(window=60)
    batch = make_batch(spec, histories, local)
    reference = autograd_gradients(spec, histories, local)
    check_engine(spec, random_weights(spec), batch, reference)
    check_opacus(spec, random_weights(spec), batch, reference)


@pytest.mark.parametrize("spec", [SPEC, WIDE], ids=["deep", "wide and deep"])
@pytest.mark.parametrize("answer", range(7))
def test_no_answer_is_known_before_it_is_given(answer, spec):
    history = made_up_history(7, 3)
    correct = history.correct.copy()
    correct[answer] = 1 - correct[answer]
    (before,), (after,) = logits(spec, [history]), logits(spec, [replace(history, correct=correct)])
    np.testing.assert_array_equal(before[: answer + 1], after[: answer + 1])
    assert answer == 6 or (before[answer + 1 :] != after[answer + 1 :]).any()


def test_a_learner_without_answers_has_no_row():
    empty, one = made_up_history(0, 1), made_up_history(1, 1)
    assert make_batch(SPEC, [empty, empty], LocalTraining()).learner_of_row.tolist() == []
    batch = make_batch(SPEC, [empty, one, empty], LocalTraining())
    assert batch.learner_of_row.tolist() == [1]
    assert batch.learners == 3


def test_losses_of_a_learners_rows_sum_to_the_mean_over_their_answers():
    histories = [made_up_history(length, 5) for length in (1, 9, 4)]
    batch = make_batch(SPEC, histories, LocalTraining(window=4))
    zeros = {name: np.zeros_like(weight) for name, weight in WEIGHTS.items()}
    losses = DktKind().loss(DktKind().build(SPEC, zeros), batch)
    sums = torch.zeros(3).index_add_(0, batch.learner_of_row, losses)
    np.testing.assert_allclose(sums.detach(), np.log(2), rtol=1e-6)


def test_a_public_divisor_leaves_the_sum_over_a_learners_answers():
    histories = [made_up_history(length, 5) for length in (1, 9, 4)]
    local = LocalTraining(window=4, loss_divisor=10)
    batch = make_batch(SPEC, histories, local)
    zeros = {name: np.zeros_like(weight) for name, weight in WEIGHTS.items()}
    losses = DktKind().loss(DktKind().build(SPEC, zeros), batch)
    sums = torch.zeros(3).index_add_(0, batch.learner_of_row, losses)
    np.testing.assert_allclose(sums.detach(), np.log(2) * np.array([1, 9, 4]) / 10, rtol=1e-6)


def test_a_smaller_scale_of_practice_needs_larger_weights_for_the_same_model():
    histories, weights = [made_up_history(9, 5)], random_weights(WIDE)
    scaled = WIDE.model_copy(update={"practice_scale": 0.25, "skill_scale": 0.5})
    larger = {
        **weights,
        "practice": 4 * weights["practice"],
        "skill_practice": 2 * weights["skill_practice"],
    }
    (one,), (other,) = (
        DktKind().score(spec, values, histories)
        for spec, values in ((WIDE, weights), (scaled, larger))
    )
    np.testing.assert_allclose(other.outputs, one.outputs, rtol=1e-6)


def test_drawn_windows_count_as_the_learners_whole_history():
    batch = make_batch(SPEC, [made_up_history(20, 1)], LocalTraining(window=5, max_windows=2))
    assert batch.learner_of_row.tolist() == [0, 0]
    assert batch.inputs.weights.sum().item() == pytest.approx(1)


def test_scores_are_all_but_the_first_answer_however_they_are_cut_into_chunks(monkeypatch):
    histories = [made_up_history(length, 2) for length in (5, 0, 1, 9, 5, 2)]
    whole = DktKind().score(SPEC, WEIGHTS, histories)
    assert [len(one.targets) for one in whole] == [4, 0, 0, 8, 4, 1]
    for one, history, expected in zip(whole, histories, logits(SPEC, histories), strict=True):
        np.testing.assert_array_equal(one.targets, history.correct[1:])
        np.testing.assert_allclose(one.outputs, 1 / (1 + np.exp(-expected[1:])), atol=1e-6)
    monkeypatch.setattr(dkt, "_ANSWERS_AT_ONCE", 10)
    for one, other in zip(DktKind().score(SPEC, WEIGHTS, histories), whole, strict=True):
        np.testing.assert_allclose(one.outputs, other.outputs, atol=1e-6)


def test_nobody_to_score_gives_no_figures():
    assert DktKind().score(SPEC, WEIGHTS, []) == []
