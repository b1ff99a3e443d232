"""An LSTM recurrence that leaves every parameter in a leaf module of its own.

Opacus attributes a gradient to a learner through hooks on leaf modules, and its samplers need each
leaf called once per forward. The recurrence calls nothing: it takes the gates' two summands, runs
without autograd, and its backward returns the gradient of the pre-activations of *all* steps. The
leaf that owns the recurrent matrix is then called once, on the stacked earlier states.

Hochreiter and Schmidhuber 1997; the forget gate of Gers et al. 2000. Backward: BPTT by hand.
"""

from typing import Any, NamedTuple

import torch
from torch import nn


class Tape(NamedTuple):
    """What a forward run leaves behind, time first: T steps, R rows, H units."""

    gates: torch.Tensor
    """(T, R, 4H) activated gates: input, forget, cell, output."""
    cells: torch.Tensor
    """(T + 1, R, H), zeros first."""
    states: torch.Tensor
    """(T + 1, R, H), zeros first: ``states[t]`` is what step t starts from."""


def run(inputs: torch.Tensor, recurrent: torch.Tensor) -> Tape:
    """Step through ``inputs`` (R, T, 4H) from zero states with the matrix ``recurrent`` (4H, H)."""
    rows, steps, width = inputs.shape
    hidden = width // 4
    gates = inputs.transpose(0, 1).contiguous()
    cells = inputs.new_zeros(steps + 1, rows, hidden)
    states = inputs.new_zeros(steps + 1, rows, hidden)
    transposed = recurrent.t().contiguous()
    for step in range(steps):
        gate = gates[step].addmm_(states[step], transposed)
        gate[:, : 2 * hidden].sigmoid_()
        gate[:, 2 * hidden : 3 * hidden].tanh_()
        gate[:, 3 * hidden :].sigmoid_()
        enter, forget, cell, leave = gate.chunk(4, dim=1)
        torch.mul(forget, cells[step], out=cells[step + 1]).addcmul_(enter, cell)
        torch.tanh(cells[step + 1], out=states[step + 1]).mul_(leave)
    return Tape(gates, cells, states)


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
        return tape.states[:-1].transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        deltas = _deltas(ctx.tape, ctx.recurrent, gradients[0].transpose(0, 1))
        by_row = deltas.transpose(0, 1)
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
    for step in range(steps - 2, -1, -1):
        state = torch.addmm(gradient[step + 1], deltas[step + 1].view(rows, width), recurrent)
        carried.mul_(forget[step + 1]).addcmul_(state, through_cell[step])
        torch.mul(carried.unsqueeze(1), factors[step, :, :3], out=deltas[step, :, :3])
        torch.mul(state, factors[step, :, 3], out=deltas[step, :, 3])
    return deltas.view(steps, rows, width)


def states_before(from_inputs: torch.Tensor, recurrent: nn.Linear) -> torch.Tensor:
    """(R, T, H) state before each step; ``from_inputs`` (R, T, 4H), ``recurrent`` a leaf.

    Gradients reach ``from_inputs`` and the leaf's weight, exactly as through an unrolled LSTM.
    """
    weight = recurrent.weight.detach()
    with torch.no_grad():
        tape = run(from_inputs.detach(), weight)
    earlier = tape.states[:-1].transpose(0, 1)
    # The product's value was used in `run`; this call lets the leaf see its inputs and gradients.
    result: torch.Tensor = _Recurrence.apply(from_inputs, recurrent(earlier), weight, tape)
    return result
