"""An LSTM recurrence that leaves every parameter in a leaf module of its own.

A gradient is attributed to a learner from what enters a leaf and the gradient of what leaves it,
which needs each leaf called once per forward. So the recurrence is one function without parameters:
it runs all steps without autograd, and its backward returns the gradient of the pre-activations of
*all* steps, which is that of both leaves' outputs. The leaves themselves compute nothing.

The steps are run by a compiled kernel (``kernels.lstm``) where there is one, else in PyTorch
(``models.unrolled``). In both, a learner's gradient does not depend on who else is in the batch,
whatever weights a coordinator sends.

Hochreiter and Schmidhuber 1997; the forget gate of Gers et al. 2000. Backward: BPTT by hand.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from cloister_client.kernels import loader, lstm
from cloister_client.models import unrolled
from cloister_client.models.leaves import gathered_gradient
from cloister_client.models.table_gradient import TableGradient


class Tape(Protocol):
    """What a forward run leaves behind for the one backward that it is good for."""

    @property
    def states(self) -> torch.Tensor:
        """(R, T, H) before each step; what lies beyond a row's length means nothing."""

    def deltas(self, gradient: torch.Tensor) -> torch.Tensor:
        """(R, T, 4H) gradient of the pre-activations; ``gradient`` (R, T, H) is of the states.

        What the states were computed from is overwritten.
        """


class InputGates(nn.Module):
    """The leaf of what answers add to the gates; ``weight`` (size, 4H).

    Its output is a place for the gradient: the rows are read while the recurrence runs.
    """

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table)

    def forward(self, indices: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """(R, T, 4H) zeros; ``indices`` and ``shares`` (R, T, S) as for ``LookUp``."""
        result: torch.Tensor = _InputGates.apply(self.weight, self, indices, shares)
        return result

    def gradient(self, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> TableGradient:
        """Each index that was read adds its share of the pre-activations' gradient."""
        return gathered_gradient(self.weight, inputs, output)


class StateGates(nn.Module):
    """The leaf of what the state before adds to the gates; ``weight`` (4H, H). Output as above."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(matrix)

    def forward(self, states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(R, T, 4H) zeros; ``states`` (R, T, H) before each step, ``lengths`` (R,), falling."""
        result: torch.Tensor = _StateGates.apply(self.weight, states, lengths)
        return result


def states_before(
    inputs: InputGates,
    recurrent: StateGates,
    indices: torch.Tensor,
    shares: torch.Tensor,
    lengths: torch.Tensor,
) -> torch.Tensor:
    """(R, T, H) state before each step of R rows, the longest first.

    ``indices`` and ``shares`` (R, T, S) say what the rows read from ``inputs``; ``lengths`` (R,),
    falling, are their true lengths. States beyond them mean nothing, and no gradient may come from
    there. Gradients reach both leaves exactly as through an unrolled LSTM.
    """
    matrix = recurrent.weight.detach()
    with torch.no_grad():
        steps = lstm.run if loader.available(matrix.dtype) else unrolled.run
        run = partial(steps, inputs.weight.detach(), matrix, indices, shares, lengths)
        tape: Tape = run()
    places = inputs(indices, shares), recurrent(tape.states, lengths)
    result: torch.Tensor = _Recurrence.apply(*places, tape, run)
    return result


class _Recurrence(torch.autograd.Function):
    """States before each step as a function of the leaves' outputs, given the finished tape.

    The rare second backward (Opacus's ghost clipping has one) runs the steps again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        from_inputs: torch.Tensor,
        from_states: torch.Tensor,
        tape: Tape,
        run: Callable[[], Tape],
    ) -> torch.Tensor:
        ctx.tape, ctx.run = tape, run
        # A tensor of its own: what is returned holds this node, which must not hold it as well.
        return tape.states.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tape, ctx.tape = ctx.tape or ctx.run(), None
        deltas = tape.deltas(gradients[0])
        return deltas, deltas, None, None


class _InputGates(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weight: torch.Tensor,
        leaf: InputGates,
        indices: torch.Tensor,
        shares: torch.Tensor,
    ) -> torch.Tensor:
        ctx.leaf, ctx.inputs = leaf, (indices, shares)
        return weight.new_zeros(()).expand(*indices.shape[:2], weight.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return ctx.leaf.gradient(ctx.inputs, gradients[0]).total(), None, None, None


class _StateGates(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor, states: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        ctx.states, ctx.live = states, unrolled.live_rows(lengths, states.shape[1])
        return weight.new_zeros(()).expand(*states.shape[:2], len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (deltas,), states = gradients, ctx.states
        if states.is_contiguous():
            # With rows first there are zeros where nothing counts, in deltas and in states.
            return torch.mm(deltas.flatten(0, 1).t(), states.flatten(0, 1)), None, None
        total = deltas.new_zeros(deltas.shape[2], states.shape[2])
        for step in range(1, len(ctx.live)):
            part = slice(ctx.live[step])
            total.addmm_(deltas[part, step].t(), states[part, step])
        return total, None, None
