"""A matrix's clipped sum is that of its learners' gradients, each the same whoever else is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister_client.training.matrix_gradient import MatrixGradient

from ..models.per_learner import without_kernels


def random_gradient(
    lengths: list[int], owners: list[int], hidden: int, seed: int = 1
) -> MatrixGradient:
    """Rows first in memory; what lies outside the steps that count is not a number."""
    random = torch.Generator().manual_seed(seed)
    rows, steps = len(lengths), max(lengths, default=0)
    deltas = torch.randn(rows, steps, 4 * hidden, generator=random)
    states = torch.randn(rows, steps, hidden, generator=random)
    outside = torch.arange(steps) >= torch.tensor(lengths, dtype=torch.int64).unsqueeze(1)
    deltas[outside], states[outside] = torch.nan, torch.nan
    return MatrixGradient(
        deltas,
        states,
        torch.tensor(lengths, dtype=torch.int64),
        torch.tensor(owners, dtype=torch.int64),
    )


def by_learner(gradient: MatrixGradient, learners: int) -> torch.Tensor:
    """(learners, O, I) in float64, row by row."""
    shape = gradient.deltas.shape[2], gradient.states.shape[2]
    found = torch.zeros(learners, *shape, dtype=torch.float64)
    for row, owner in enumerate(gradient.owners.tolist()):
        steps = slice(1, max(1, int(gradient.lengths[row]) - 1))
        deltas, states = gradient.deltas[row, steps], gradient.states[row, steps]
        found[owner] += deltas.double().t() @ states.double()
    return found


@st.composite
def cases(draw):
    learners = draw(st.integers(1, 6))
    lengths = sorted(draw(st.lists(st.integers(1, 30), max_size=12)), reverse=True)
    owner = st.integers(0, learners - 1)
    owners = draw(st.lists(owner, min_size=len(lengths), max_size=len(lengths)))
    return random_gradient(lengths, owners, draw(st.integers(1, 9)), draw(st.integers(0, 99)))


def check_clipped_sum(gradient: MatrixGradient) -> None:
    learners = 6
    own = by_learner(gradient, learners)
    others = torch.arange(learners).double()
    norms = (own.flatten(1).square().sum(dim=1) + others).sqrt()
    clip_norm = norms.median().item()
    coefficients = (clip_norm / (norms + 1e-6)).clamp(max=1)
    squares = others.float()
    found = gradient.clipped_sum(squares, clip_norm).double()
    expected = torch.einsum("n,noi->oi", coefficients, own)
    assert (found - expected).norm() <= 1e-5 * (1 + expected.norm())
    torch.testing.assert_close(squares.sqrt().double(), norms, rtol=1e-5, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_the_clipped_sum_is_that_of_the_learners_gradients(gradient):
    check_clipped_sum(gradient)
    with without_kernels():
        check_clipped_sum(gradient)


@pytest.mark.usefixtures("_either_way", "_threads")
@pytest.mark.parametrize("hidden", [2, 9, 32])
@pytest.mark.parametrize("others", [[12], [3] * 40, [900, 500, 41, 2, 1]])
def test_a_learner_adds_the_same_to_the_last_bit_whoever_else_is_there(others, hidden):
    """Steps of very different sizes that almost cancel: any other order of adding would be seen."""
    lengths = sorted([*others, 40, 25], reverse=True)
    mine = [lengths.index(40), len(lengths) - 1 - lengths[::-1].index(25)]
    owners = [0 if row in mine else 1 + row for row in range(len(lengths))]
    everybody = random_gradient(lengths, owners, hidden)
    everybody.deltas.mul_(10 ** torch.linspace(-8, 8, lengths[0]).view(1, -1, 1))
    for row in mine:
        everybody.deltas[row, 11:20] = -everybody.deltas[row, 2:11]
        everybody.states[row, 11:20] = everybody.states[row, 2:11]
    alone = MatrixGradient(
        everybody.deltas[mine, :40].contiguous(),
        everybody.states[mine, :40].contiguous(),
        everybody.lengths[mine],
        torch.zeros(2, dtype=torch.int64),
    )
    left_out = torch.full((len(lengths) + 1,), torch.inf)
    left_out[0] = 0
    own_square, together = torch.zeros(1), everybody.clipped_sum(left_out, 1.0)
    assert torch.equal(alone.clipped_sum(own_square, 1.0), together)
    assert own_square[0] == left_out[0]


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e30])
def test_a_learner_whose_gradient_is_not_finite_has_no_part_in_the_sum(bad):
    gradient = random_gradient([9, 7, 5], [0, 1, 2], 3)
    without = random_gradient([9, 7, 5], [0, 1, 2], 3)
    gradient.deltas[1, 3] = bad
    without.deltas[1] = 0
    found, expected = (one.clipped_sum(torch.zeros(3), 0.5) for one in (gradient, without))
    assert torch.equal(found, expected)


@pytest.mark.usefixtures("_either_way")
def test_the_norm_of_a_large_matrix_is_not_lost_in_rounding():
    gradient = MatrixGradient(
        torch.full((1, 3, 2048), 0.7), torch.ones(1, 3, 512), torch.tensor([3]), torch.tensor([0])
    )
    squares = torch.zeros(1)
    gradient.clipped_sum(squares, 1.0)
    assert squares.item() == pytest.approx(2048 * 512 * 0.49, rel=1e-6)
