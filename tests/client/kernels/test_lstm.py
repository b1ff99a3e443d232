"""The compiled LSTM does what the one in PyTorch does, for everybody by themselves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_client.kernels import lstm
from cloister_client.kernels.loader import kernels
from cloister_client.models import unrolled
from cloister_client.training.matrix_gradient import MatrixGradient

pytestmark = pytest.mark.skipif(kernels() is None, reason="no compiler on this machine")

SIZE = 7


@st.composite
def problems(draw):
    """Table, matrix, readings, shares, falling lengths, and a gradient of the states."""
    hidden, skills = draw(st.integers(1, 40)), draw(st.integers(1, 3))
    lengths = sorted(draw(st.lists(st.integers(1, 9), min_size=1, max_size=40)), reverse=True)
    random = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    rows, steps = len(lengths), lengths[0]
    table, matrix, gradient = (
        torch.randn(*shape, generator=random)
        for shape in ((SIZE, 4 * hidden), (4 * hidden, hidden), (rows, steps, hidden))
    )
    indices = torch.randint(0, SIZE, (rows, steps, skills), generator=random)
    shares = torch.rand(rows, steps, skills, generator=random)
    shares[torch.rand(rows, steps, skills, generator=random) < 0.2] = 0
    true = torch.arange(steps) < torch.tensor(lengths).unsqueeze(1)
    gradient = gradient * true.unsqueeze(-1)
    return table, matrix / hidden**0.5, indices, shares, torch.tensor(lengths), gradient


def true_steps(lengths: torch.Tensor) -> torch.Tensor:
    return (torch.arange(int(lengths[0])) < lengths.unsqueeze(1)).unsqueeze(-1)


@settings(max_examples=80, deadline=None)
@given(problems())
def test_states_and_deltas_are_those_of_the_recurrence_in_pytorch(problem):
    *inputs, lengths, gradient = problem
    ours, theirs = lstm.run(*inputs, lengths), unrolled.run(*inputs, lengths)
    true = true_steps(lengths)
    # Beyond a row's length PyTorch's states are whatever lay there.
    known = theirs.states.masked_fill(~true, 0)
    torch.testing.assert_close(ours.states, known, rtol=1e-5, atol=2e-6)
    assert not ours.states[~true.squeeze(-1)].any()
    mine, others = ours.deltas(gradient), theirs.deltas(gradient)
    largest = float(others.abs().max())
    torch.testing.assert_close(mine, others, rtol=1e-4, atol=2e-5 * (1 + largest))
    assert not mine[~true.squeeze(-1)].any()


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(1, 6), st.floats(0.01, 10))
def test_clipped_sums_are_those_formed_in_pytorch(problem, learners, clip_norm):
    *inputs, lengths, gradient = problem
    tape = lstm.run(*inputs, lengths)
    deltas, owners = tape.deltas(gradient), torch.arange(len(lengths)) % learners
    others = torch.rand(learners, generator=torch.Generator().manual_seed(1))
    found = MatrixGradient(deltas, tape.states, lengths, owners)
    ours, theirs = others.clone(), others.clone()
    mine = found.clipped_sum(ours, clip_norm)
    reference = found._clipped_sum(theirs, clip_norm)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5 * float(reference.norm()))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("hidden", [3, 16, 33])
def test_a_row_is_the_same_to_the_last_bit_alone_and_among_others(hidden, threads, monkeypatch):
    """Whatever the weights: here they amplify rounding to the size of the states."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    random = torch.Generator().manual_seed(hidden)
    table = torch.randn(SIZE, 4 * hidden, generator=random)
    matrix = 10 * torch.randn(4 * hidden, hidden, generator=random) / hidden**0.5
    lengths = torch.randint(20, 60, (50,), generator=random).sort(descending=True).values
    indices = torch.randint(0, SIZE, (50, int(lengths[0]), 1), generator=random)
    shares = torch.ones(indices.shape)
    gradient = torch.randn(50, int(lengths[0]), hidden, generator=random) * true_steps(lengths)
    together = lstm.run(table, matrix, indices, shares, lengths)
    states, deltas = together.states, together.deltas(gradient)
    for row in (0, 17, 31, 49):
        one = slice(row, row + 1)
        alone = lstm.run(table, matrix, indices[one], shares[one], lengths[one])
        assert torch.equal(alone.states[0], states[row])
        assert torch.equal(alone.deltas(gradient[one])[0], deltas[row])


def test_a_learner_whose_gradient_is_not_finite_has_no_part_in_the_sum():
    lengths, owners = torch.tensor([4, 4]), torch.tensor([0, 1])
    deltas, states = torch.ones(2, 4, 8), torch.ones(2, 4, 2)
    alone = torch.zeros(2)
    expected = lstm.clipped_sum(
        deltas[:1], states[:1], lengths[:1], owners[:1], alone[:1], clip_norm=1, tiny=0
    )
    for bad in (float("nan"), float("inf"), 3e38):
        deltas[1, 2, 3], squares = bad, torch.zeros(2)
        found = lstm.clipped_sum(deltas, states, lengths, owners, squares, clip_norm=1, tiny=0)
        torch.testing.assert_close(found, expected)
        assert not squares[1].isfinite()


def test_nobody_and_single_answers_add_nothing():
    none = torch.zeros(0, dtype=torch.int64)
    empty = lstm.clipped_sum(
        torch.zeros(0, 1, 8), torch.zeros(0, 1, 2), none, none, torch.zeros(3), clip_norm=1, tiny=0
    )
    assert empty.shape == (8, 2)
    assert not empty.any()
    single = lstm.clipped_sum(
        torch.ones(2, 1, 8),
        torch.ones(2, 1, 2),
        torch.tensor([1, 1]),
        torch.tensor([0, 1]),
        torch.zeros(2),
        clip_norm=1,
        tiny=0,
    )
    assert not single.any()


@pytest.mark.parametrize("index", [-1, SIZE])
def test_an_index_outside_the_table_is_never_read(index):
    indices = torch.full((1, 2, 1), index)
    with pytest.raises(IndexError, match="outside"):
        lstm.run(
            torch.zeros(SIZE, 8),
            torch.zeros(8, 2),
            indices,
            torch.ones(1, 2, 1),
            torch.tensor([2]),
        )
