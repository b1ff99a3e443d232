"""Clients trained by the kernel move as clients do whose tracers are written out in autograd."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from cloister_client.kernels.clients import ClientWindows, Descent, train_clients
from cloister_client.kernels.loader import kernels
from cloister_shared.model_specs import Weights
from cloister_shared.model_specs.dkt import PRACTICE_FEATURES, SKILL_FEATURES, DktSpec

pytestmark = pytest.mark.skipif(kernels() is None, reason="no compiler on this machine")

SKILLS, ITEMS = 6, 9


def make_weights(hidden: int, seed: int, *, wide: bool = False) -> Weights:
    random = np.random.default_rng(seed)
    spec = DktSpec(skills=SKILLS, hidden=hidden, items=ITEMS if wide else 0, practice=wide)
    weights = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in spec.shapes().items()
    }
    return {**weights, "recurrent": weights["recurrent"] / np.float32(hidden**0.5)}


def make_windows(lengths: list[list[int]], skills: int, seed: int) -> ClientWindows:
    """Windows of ``lengths`` by client, somewhere in an array of answers that has gaps."""
    random = np.random.default_rng(seed)
    flat = np.array([length for own in lengths for length in own], dtype=np.int64)
    starts = np.cumsum(flat + 2) - flat
    answers = int(flat.sum() + 2 * len(flat))
    asked = random.integers(0, SKILLS, (answers, skills)).astype(np.int32)
    correct = (random.random(answers) < 0.6).astype(np.float32)
    shares = random.random((answers, skills)).astype(np.float32)
    shares[random.random(shares.shape) < 0.2] = 0
    return ClientWindows(
        clients=np.cumsum([0, *map(len, lengths)]),
        starts=starts,
        lengths=flat,
        weights=random.random(len(flat)).astype(np.float32),
        read=(asked + SKILLS * correct[:, np.newaxis]).astype(np.int32),
        asked=asked,
        shares=shares,
        correct=correct,
        items=random.integers(0, ITEMS, answers).astype(np.int32),
        practice=random.standard_normal((answers, PRACTICE_FEATURES)).astype(np.float32),
        skill_practice=_own_features(shares, random),
        factors=random.uniform(0.5, 2, len(lengths)).astype(np.float32),
    )


def _own_features(shares: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(answers, features, skills), zero where padded."""
    features = random.standard_normal((len(shares), SKILL_FEATURES, shares.shape[1]))
    return (features * (shares > 0)[:, np.newaxis]).astype(np.float32)


@st.composite
def problems(draw):
    """Weights, windows of none to twenty clients, and how they descend."""
    lengths = draw(
        st.lists(st.lists(st.integers(1, 6), max_size=3), max_size=4)
        | st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=1), min_size=9, max_size=20)
        | st.lists(st.lists(st.integers(1, 3), min_size=9, max_size=11), max_size=2)
    )
    seed = draw(st.integers(0, 1000))
    weights = make_weights(draw(st.integers(1, 40)), seed, wide=draw(st.booleans()))
    windows = make_windows(lengths, draw(st.integers(1, 3)), seed)
    if "practice" not in weights:
        none = windows.practice[:, :0], windows.skill_practice[:, :0]
        windows = replace(windows, practice=none[0], skill_practice=none[1])
    clip = draw(st.just(0.0) | st.floats(0.01, 3))
    descent = Descent(steps=draw(st.integers(1, 3)), rate=0.3, clip=clip, tiny=1e-6)
    return weights, windows, descent


def loss_of(weights: dict[str, torch.Tensor], windows: ClientWindows, window: int) -> torch.Tensor:
    """One window's weighted loss, answer by answer."""
    hidden = weights["recurrent"].shape[1]
    state, cell, loss = (torch.zeros(size, dtype=torch.float64) for size in (hidden, hidden, 1))
    start = windows.starts[window]
    for answer in range(start, start + windows.lengths[window]):
        shares = torch.tensor(windows.shares[answer], dtype=torch.float64)
        asked = shares @ weights["output"][windows.asked[answer].tolist()]
        logit = asked[:-1] @ state + asked[-1]
        if "practice" in weights:
            counted = torch.tensor(windows.practice[answer], dtype=torch.float64)
            logit = logit + weights["item_bias"][windows.items[answer], 0]
            logit = logit + weights["practice"][0] @ counted
            for feature, own in enumerate(windows.skill_practice[answer]):
                rows = windows.asked[answer] + SKILLS * feature
                of_rows = weights["skill_practice"][rows.tolist(), 0]
                logit = logit + of_rows @ torch.tensor(own, dtype=torch.float64)
        correct = torch.tensor(windows.correct[answer], dtype=torch.float64)
        loss = loss + functional.binary_cross_entropy_with_logits(logit, correct)
        gates = shares @ weights["input"][windows.read[answer].tolist()]
        enter, forget, fresh, leave = (gates + weights["recurrent"] @ state).chunk(4)
        cell = forget.sigmoid() * cell + enter.sigmoid() * fresh.tanh()
        state = leave.sigmoid() * cell.tanh()
    return float(windows.weights[window]) * loss.sum()


def update_of(
    start: Weights, windows: ClientWindows, client: int, descent: Descent
) -> list[torch.Tensor]:
    """The sum of the client's gradients."""
    common = [torch.tensor(one, dtype=torch.float64) for one in start.values()]
    update = [torch.zeros_like(one) for one in common]
    for _ in range(descent.steps):
        own = [
            (one - descent.rate * moved).requires_grad_()
            for one, moved in zip(common, update, strict=True)
        ]
        named = dict(zip(start, own, strict=True))
        for window in range(*windows.clients[client : client + 2]):
            torch.autograd.backward(loss_of(named, windows, window))
        update = [
            moved if one.grad is None else moved + one.grad
            for moved, one in zip(update, own, strict=True)
        ]
    return update


def one_by_one(start: Weights, windows: ClientWindows, descent: Descent) -> dict[str, np.ndarray]:
    """The weighted sum of clipped updates."""
    total = {name: np.zeros(one.shape) for name, one in start.items()}
    for client, factor in enumerate(windows.factors):
        update = update_of(start, windows, client, descent)
        norm = sum(float(part.square().sum()) for part in update) ** 0.5
        cut = min(1.0, descent.clip / (norm + descent.tiny)) if descent.clip else 1.0
        for name, part in zip(start, update, strict=True):
            total[name] += cut * float(factor) * part.numpy()
    return total


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(1, 3))
def test_the_sum_is_that_of_clients_trained_one_by_one(problem, threads):
    ours, theirs = train_clients(*problem, threads=threads), one_by_one(*problem)
    largest = max(np.abs(one).max() for one in theirs.values())
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_round_is_the_same_to_the_last_bit_when_it_is_repeated(steps, clip):
    weights, windows = (
        make_weights(20, 1, wide=True),
        make_windows([[5, 3], [7], [2], [9, 1]] * 9, 2, 1),
    )
    descent = Descent(steps=steps, rate=0.3, clip=clip, tiny=1e-6)
    first, *others = (train_clients(weights, windows, descent, threads=3) for _ in range(4))
    for other in others:
        for name, array in first.items():
            np.testing.assert_array_equal(array, other[name])


def test_without_clients_the_sum_is_zero():
    descent = Descent(steps=2, rate=0.3, clip=1.0, tiny=1e-6)
    total = train_clients(make_weights(5, 1), make_windows([], 1, 1), descent, threads=2)
    assert not any(array.any() for array in total.values())


def test_a_client_whose_update_has_no_finite_norm_has_no_part_in_a_clipped_sum():
    weights, windows = make_weights(5, 1), make_windows([[4], [5]], 1, 1)
    windows.shares[:] = 1
    descent = Descent(steps=1, rate=0.3, clip=1.0, tiny=1e-6)
    hostile = replace(windows, weights=np.array([np.inf, windows.weights[1]], np.float32))
    alone = replace(windows, weights=np.array([0, windows.weights[1]], np.float32))
    found, expected = (train_clients(weights, one, descent, threads=1) for one in (hostile, alone))
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("table", ["read", "asked", "items"])
@pytest.mark.parametrize("row", [-1, 2 * SKILLS])
def test_a_row_outside_a_table_is_refused(table, row):
    windows = make_windows([[4]], 1, 1)
    getattr(windows, table)[1] = row
    descent = Descent(steps=1, rate=0.3, clip=1.0, tiny=1e-6)
    with pytest.raises(IndexError, match="outside"):
        train_clients(make_weights(5, 1, wide=True), windows, descent, threads=1)
