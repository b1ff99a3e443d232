"""The recurrence is an LSTM, for its values and for every gradient, and each row is its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from cloister_client.models.recurrence import states_before


def lstm_states_before(from_inputs: torch.Tensor, recurrent: torch.Tensor) -> torch.Tensor:
    """The same by ``torch.nn.LSTM``, whose input matrix is the identity."""
    width, hidden = recurrent.shape
    lstm = nn.LSTM(width, hidden, bias=False, batch_first=True, dtype=recurrent.dtype)
    matrices = {
        "weight_ih_l0": torch.eye(width, dtype=recurrent.dtype),
        "weight_hh_l0": recurrent,
    }
    states, _ = functional_call(lstm, matrices, (from_inputs,))
    first = states.new_zeros(len(states), 1, hidden)
    return torch.cat([first, states[:, :-1]], dim=1)


def leaf(recurrent: torch.Tensor) -> nn.Linear:
    linear = nn.Linear(recurrent.shape[1], recurrent.shape[0], bias=False)
    linear.weight = nn.Parameter(recurrent.clone())
    return linear


@st.composite
def problems(draw):
    """Inputs, matrix, falling lengths, and a gradient that comes from true steps only."""
    rows, hidden = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    lengths = sorted(draw(st.lists(st.integers(1, 7), min_size=rows, max_size=rows)), reverse=True)
    random = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    inputs = torch.randn(rows, lengths[0], 4 * hidden, generator=random, dtype=torch.float64)
    recurrent = torch.randn(4 * hidden, hidden, generator=random, dtype=torch.float64)
    gradient = torch.randn(rows, lengths[0], hidden, generator=random, dtype=torch.float64)
    true = torch.arange(lengths[0]) < torch.tensor(lengths).unsqueeze(1)
    return inputs, recurrent, torch.tensor(lengths), gradient, true.unsqueeze(-1)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_the_recurrence_is_an_lstm_forwards_and_backwards(problem):
    inputs, recurrent, lengths, gradient, true = problem
    ours, theirs = (inputs.clone().requires_grad_() for _ in range(2))
    matrix, reference_matrix = leaf(recurrent), recurrent.clone().requires_grad_()

    states = states_before(ours, matrix, lengths)
    reference = lstm_states_before(theirs, reference_matrix)
    torch.testing.assert_close(states * true, reference * true, rtol=0, atol=1e-12)

    (states * true * gradient).sum().backward()
    (reference * true * gradient).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(matrix.weight.grad, reference_matrix.grad, rtol=1e-10, atol=1e-12)


def test_one_row_of_one_step_has_the_zero_state_and_no_gradient():
    inputs = torch.randn(1, 1, 8, requires_grad=True)
    matrix = leaf(torch.randn(8, 2))
    states = states_before(inputs, matrix, torch.tensor([1]))
    states.sum().backward()
    assert states.shape == (1, 1, 2)
    assert not states.any()
    assert not inputs.grad.any()
    assert not matrix.weight.grad.any()


@pytest.mark.parametrize("hidden", [3, 9, 32])
@pytest.mark.parametrize("others", [1, 4, 31, 40])
def test_a_row_is_the_same_to_the_last_bit_whoever_is_in_the_batch(others, hidden):
    """Weights that amplify rounding would otherwise turn a neighbour into a change of direction."""
    random = torch.Generator().manual_seed(1)
    steps = 100
    recurrent = 10 / hidden**0.5 * torch.randn(4 * hidden, hidden, generator=random)
    inputs = torch.randn(others + 3, steps, 4 * hidden, generator=random)
    lengths = torch.randint(40, steps, (others + 3,), generator=random)
    lengths[-3:] = torch.tensor([30, 20, 10])
    lengths = lengths.sort(descending=True).values

    def states_and_gradient(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        part = inputs[rows].clone().requires_grad_()
        true = torch.arange(steps) < lengths[rows].unsqueeze(1)
        states = states_before(part, leaf(recurrent), lengths[rows]) * true.unsqueeze(-1)
        states.sum().backward()
        return states[-3:], part.grad[-3:]

    alone, with_others = states_and_gradient(slice(-3, None)), states_and_gradient(slice(None))
    assert torch.equal(alone[0], with_others[0])
    assert torch.equal(alone[1], with_others[1])


def test_what_padding_holds_never_reaches_a_row():
    hidden = 256
    recurrent = torch.full((4 * hidden, hidden), 3e38)
    recurrent[:, hidden // 2 :] *= -1
    inputs = torch.full((8, 4, 4 * hidden), 5.0)
    inputs[1:, 1:] = float("nan")
    inputs.requires_grad_()
    lengths = torch.tensor([4, 1, 1, 1, 1, 1, 1, 1])
    states = states_before(inputs, leaf(recurrent), lengths)
    states[1:, :1].sum().backward()
    assert states.isfinite()[1:].all()
    assert not inputs.grad[1:].any()
