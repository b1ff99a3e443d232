"""The recurrence is an LSTM, for its values and for every gradient, and each row is its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from cloister_client.models.recurrence import InputGates, StateGates, states_before


class Problem:
    """R rows that each read some rows of a table, ``lengths`` falling; leaves and their inputs."""

    def __init__(self, lengths: list[int], hidden: int, seed: int, dtype=torch.float64) -> None:
        random = torch.Generator().manual_seed(seed)
        rows, steps, self.hidden = len(lengths), max(lengths), hidden
        self.lengths = torch.tensor(lengths)
        self.true = (torch.arange(steps) < self.lengths.unsqueeze(1)).unsqueeze(2)
        self.indices = torch.randint(6, (rows, steps, 2), generator=random)
        self.shares = torch.rand(rows, steps, 2, generator=random, dtype=dtype) * self.true
        self.table = torch.randn(6, 4 * hidden, generator=random, dtype=dtype)
        self.matrix = torch.randn(4 * hidden, hidden, generator=random, dtype=dtype)
        self.matrix /= hidden**0.5
        self.gradient = torch.randn(rows, steps, hidden, generator=random, dtype=dtype) * self.true

    def run(self, rows: slice = slice(None)) -> list[torch.Tensor]:
        """States, and the gradients of both weights and of all pre-activations, of some rows."""
        inputs, recurrent = InputGates(self.table.clone()), StateGates(self.matrix.clone())
        deltas: list[torch.Tensor] = []

        def listen(leaf: nn.Module, given: object, output: torch.Tensor) -> None:
            output.register_hook(deltas.append)

        recurrent.register_forward_hook(listen)
        steps = int(self.lengths[rows].max())
        parts = [array[rows, :steps] for array in (self.indices, self.shares)]
        states = states_before(inputs, recurrent, *parts, self.lengths[rows])
        true = self.true[rows, :steps]
        kept = torch.where(true, states, 0)
        (kept * self.gradient[rows, :steps]).sum().backward()
        return [
            kept.detach(),
            inputs.weight.grad,
            recurrent.weight.grad,
            torch.where(true, deltas[0], 0),
        ]

    def run_lstm(self) -> list[torch.Tensor]:
        """The same by ``torch.nn.LSTM``, whose input matrix is the identity."""
        table, matrix = (one.clone().requires_grad_() for one in (self.table, self.matrix))
        gates = (table[self.indices] * self.shares.unsqueeze(3)).sum(dim=2)
        lstm = nn.LSTM(4 * self.hidden, self.hidden, bias=False, batch_first=True).double()
        identity = torch.eye(4 * self.hidden, dtype=torch.float64)
        weights = {"weight_ih_l0": identity, "weight_hh_l0": matrix}
        states, _ = functional_call(lstm, weights, (gates,))
        before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1) * self.true
        gates.retain_grad()
        (before * self.gradient).sum().backward()
        return [before.detach(), table.grad, matrix.grad, gates.grad]


@st.composite
def problems(draw):
    lengths = sorted(draw(st.lists(st.integers(1, 7), min_size=1, max_size=20)), reverse=True)
    return lengths, draw(st.integers(1, 9)), draw(st.integers(0, 1000))


@settings(max_examples=50, deadline=None)
@given(problems())
def test_the_recurrence_is_an_lstm_forwards_and_backwards(problem):
    for ours, theirs in zip(Problem(*problem).run(), Problem(*problem).run_lstm(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


@pytest.mark.usefixtures("_either_way")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hidden", [1, 7, 16, 33])
@pytest.mark.parametrize("lengths", [[1], [9, 9, 2, 1, 1], [*range(40, 0, -1), 1, 1]])
def test_in_float32_it_is_the_same_lstm(lengths, hidden, seed):
    exact = Problem(lengths, hidden, seed)
    rounded = Problem(lengths, hidden, seed)
    for name in ("shares", "table", "matrix", "gradient"):
        setattr(rounded, name, getattr(exact, name).float())
    for ours, theirs in zip(rounded.run(), exact.run_lstm(), strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.usefixtures("_either_way")
def test_one_row_of_one_step_has_the_zero_state_and_no_gradient():
    for found in Problem([1], 2, 1, torch.float32).run():
        assert not found.any()


@pytest.mark.usefixtures("_either_way")
def test_a_backward_that_is_repeated_gives_the_same():
    """As Opacus's ghost clipping does, with other weights of the rows the second time."""
    problem = Problem([5, 3, 1], 4, 1, torch.float32)
    inputs, recurrent = InputGates(problem.table), StateGates(problem.matrix)
    states = states_before(inputs, recurrent, problem.indices, problem.shares, problem.lengths)
    loss = (torch.where(problem.true, states, 0) * problem.gradient).sum()
    first = torch.autograd.grad(loss, [inputs.weight, recurrent.weight], retain_graph=True)
    second = torch.autograd.grad(2 * loss, [inputs.weight, recurrent.weight])
    for one, twice in zip(first, second, strict=True):
        torch.testing.assert_close(2 * one, twice)
        assert one.any()


@pytest.mark.usefixtures("_either_way", "_threads")
@pytest.mark.parametrize("hidden", [3, 9, 32])
@pytest.mark.parametrize("others", [1, 40])
def test_a_row_is_the_same_to_the_last_bit_whoever_is_in_the_batch(others, hidden):
    """Weights that amplify rounding would otherwise turn a neighbour into a change of direction."""
    random = torch.Generator().manual_seed(1)
    lengths = torch.randint(40, 100, (others,), generator=random).sort(descending=True).values
    problem = Problem([*lengths.tolist(), 30, 20, 10], hidden, 1, torch.float32)
    problem.matrix *= 10
    alone, with_others = problem.run(slice(-3, None)), problem.run()
    for place in (0, 3):
        assert torch.equal(alone[place], with_others[place][-3:, :30])


@pytest.mark.usefixtures("_either_way")
def test_what_padding_holds_never_reaches_a_row():
    """A second step overflows: infinity minus infinity. Only the first row takes it."""
    problem = Problem([4, 1, 1, 1, 1, 1, 1, 1], 256, 1, torch.float32)
    problem.table[:] = 5
    problem.matrix[:, :128], problem.matrix[:, 128:] = 3e38, -3e38
    states, _, _, deltas = problem.run()
    assert not states[0].isfinite().all()
    assert states[1:].isfinite().all()
    assert not deltas[1:].any()
