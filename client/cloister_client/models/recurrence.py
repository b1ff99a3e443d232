"""An LSTM recurrence that leaves every parameter in a leaf module of its own.

Opacus attributes a gradient to a learner through hooks on leaf modules, and its samplers need each
leaf called once per forward. The recurrence calls nothing: it takes the gates' two summands, runs
without autograd, and its backward returns the gradient of the pre-activations of *all* steps. The
leaf that owns the recurrent matrix is then called once, on the stacked earlier states.

A learner's gradient must not depend on who else is in the batch, whatever weights a coordinator
sends. So padding is never computed with: an overflow there would be NaN in the learner's gradient.
And products run over whole blocks of rows, in which a row's result does not vary with their number:
weights that amplify rounding make a difference in the last bit as large as the gradient itself.

Hochreiter and Schmidhuber 1997; the forget gate of Gers et al. 2000. Backward: BPTT by hand.
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

_BLOCK = 32
"""Matrix products have a multiple of so many rows, which no kernel treats as a remainder."""
_LEAST_COLUMNS = 16
"""And at least so many columns: for fewer there are kernels that divide rows otherwise."""


class Tape(NamedTuple):
    """What a forward run leaves behind, time first: T steps, R rows in whole blocks, H units."""

    gates: torch.Tensor
    """(T, R, 4H) activated gates: input, forget, cell, output."""
    cells: torch.Tensor
    """(T + 1, R, H), zeros first."""
    states: torch.Tensor
    """(T + 1, R, H), zeros first: ``states[t]`` is what step t starts from."""
    live: list[int]
    """How many rows, the first ones, need the state after each step."""


def run(inputs: torch.Tensor, recurrent: torch.Tensor, lengths: torch.Tensor) -> Tape:
    """Step through ``inputs`` (R, T, 4H) from zero states with the matrix ``recurrent`` (4H, H).

    ``lengths`` (R,) are the rows' steps without padding, the longest row first. The state after a
    row's last step is not needed, and is not that of an LSTM.
    """
    _, steps, width = inputs.shape
    hidden = width // 4
    gates = _whole_blocks(inputs.transpose(0, 1))
    cells = inputs.new_zeros(steps + 1, gates.shape[1], hidden)
    states = torch.zeros_like(cells)
    live: list[int] = (lengths.unsqueeze(1) > torch.arange(1, steps + 1)).sum(dim=0).tolist()
    transposed = recurrent.t().contiguous()
    for step, rows in enumerate(live):
        block = _round_up(rows)
        gate = gates[step, :block].addmm_(states[step, :block], transposed)
        gates[step, rows:] = 0
        gate[:, : 2 * hidden].sigmoid_()
        gate[:, 2 * hidden : 3 * hidden].tanh_()
        gate[:, 3 * hidden :].sigmoid_()
        enter, forget, cell, leave = gate.chunk(4, dim=1)
        after = cells[step + 1, :block]
        torch.mul(forget, cells[step, :block], out=after).addcmul_(enter, cell)
        torch.tanh(after, out=states[step + 1, :block]).mul_(leave)
    return Tape(gates, cells, states, live)


class _Recurrence(torch.autograd.Function):
    """States before each step as a function of the gates' summands, given the finished tape."""

    @staticmethod
    def forward(
        ctx: Any,
        from_inputs: torch.Tensor,
        from_states: torch.Tensor,
        recurrent: torch.Tensor,
        tape: Tape,
    ) -> torch.Tensor:
        ctx.recurrent, ctx.tape = recurrent, tape
        return _earlier(tape, len(from_inputs))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows = len(gradients[0])
        deltas = _deltas(ctx.tape, ctx.recurrent, _whole_blocks(gradients[0].transpose(0, 1)))
        by_row = deltas[:, :rows].transpose(0, 1)
        return by_row, by_row, None, None


def _deltas(tape: Tape, recurrent: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """(T, R, 4H) gradient of the pre-activations; ``gradient`` (T, R, H) is of ``states[:-1]``.

    The derivative factors do not depend on the recursion and are formed for all steps at once.
    """
    steps, rows, width = tape.gates.shape
    hidden = width // 4
    enter, forget, cell, leave = tape.gates.chunk(4, dim=2)
    squashed = tape.cells[1:].tanh()
    through_cell = leave * (1 - squashed * squashed)
    factors = torch.empty_like(tape.gates).view(steps, rows, 4, hidden)
    factors[:, :, 0] = cell * enter * (1 - enter)
    factors[:, :, 1] = tape.cells[:-1] * forget * (1 - forget)
    factors[:, :, 2] = enter * (1 - cell * cell)
    factors[:, :, 3] = squashed * leave * (1 - leave)
    deltas = torch.zeros_like(factors)
    carried = gradient.new_zeros(rows, hidden)
    matrix = functional.pad(recurrent, (0, max(0, _LEAST_COLUMNS - hidden)))
    for step in range(steps - 2, -1, -1):
        part = slice(_round_up(tape.live[step]))
        later = deltas[step + 1, part].flatten(1)
        state = torch.mm(later, matrix)[:, :hidden].add_(gradient[step + 1, part])
        cells = carried[part].mul_(forget[step + 1, part]).addcmul_(state, through_cell[step, part])
        torch.mul(cells.unsqueeze(1), factors[step, part, :3], out=deltas[step, part, :3])
        torch.mul(state, factors[step, part, 3], out=deltas[step, part, 3])
    return deltas.flatten(2)


def states_before(
    from_inputs: torch.Tensor, recurrent: nn.Linear, lengths: torch.Tensor
) -> torch.Tensor:
    """(R, T, H) state before each step; ``from_inputs`` (R, T, 4H), ``recurrent`` a leaf.

    ``lengths`` (R,), falling, are the rows' true lengths; states beyond them mean nothing, and no
    gradient may come from there. Gradients reach ``from_inputs`` and the leaf's weight, exactly as
    through an unrolled LSTM.
    """
    weight = recurrent.weight.detach()
    with torch.no_grad():
        tape = run(from_inputs.detach(), weight, lengths)
    # The product's value was used in `run`; this call lets the leaf see its inputs and gradients.
    from_states = recurrent(_earlier(tape, len(from_inputs)))
    result: torch.Tensor = _Recurrence.apply(from_inputs, from_states, weight, tape)
    return result


def _earlier(tape: Tape, rows: int) -> torch.Tensor:
    """(rows, T, H) states before each step, without the rows that fill up a block."""
    return tape.states[:-1, :rows].transpose(0, 1)


def _whole_blocks(array: torch.Tensor) -> torch.Tensor:
    """A copy of ``array`` (T, rows, n) with rows of zeros up to a whole block."""
    steps, rows, width = array.shape
    copy = array.new_zeros(steps, _round_up(rows), width)
    copy[:, :rows] = array
    return copy


def _round_up(rows: int) -> int:
    return -(-rows // _BLOCK) * _BLOCK
