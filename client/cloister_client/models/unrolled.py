"""The recurrence in PyTorch, where there is no compiled kernel or numbers are not float32.

A learner's gradient must not depend on who else is in the batch, whatever weights a coordinator
sends. So padding is never computed with: an overflow there would be NaN in the learner's gradient.
And products run over whole blocks of rows, in which a row's result does not vary with their number:
weights that amplify rounding make a difference in the last bit as large as the gradient itself.

Speed: rows are sorted by length and only those that are still going on are run; arrays have time
first; tanh(x) is 2·sigmoid(2x) - 1, which is several times faster; what does not depend on the
recursion is formed for as many steps at once as the cache holds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from cloister_client.kernels.lstm import double_cell_gate
from cloister_client.models.leaves import sum_rows

BLOCK = 16
"""Matrix products have a multiple of so many rows, which no kernel treats as a remainder."""
_LEAST_COLUMNS = 16
"""And at least so many columns: for fewer there are kernels that divide rows otherwise."""
_FLOATS_AT_ONCE = 2**17
"""Gates whose derivatives are formed together, so that they are in the cache when used."""


@dataclass(frozen=True)
class UnrolledTape:
    """What a forward run leaves behind, time first: T steps, R rows in whole blocks, H units."""

    matrix: torch.Tensor
    count: int
    """Rows without those that fill up a block."""
    gates: torch.Tensor
    """(T, R, 4H) activated gates: input, forget, sigmoid(2·cell), output."""
    cells: torch.Tensor
    """(T + 1, R, H), zeros first."""
    all_states: torch.Tensor
    """(T + 1, R, H), zeros first: what each step starts from."""
    live: list[int]
    """How many rows, the first ones, need the state after each step."""

    @property
    def states(self) -> torch.Tensor:
        """(count, T, H) before each step."""
        return self.all_states[:-1, : self.count].transpose(0, 1)

    def deltas(self, gradient: torch.Tensor) -> torch.Tensor:
        """(count, T, 4H) gradient of the pre-activations, in the place of the gates."""
        _turn_into_deltas(self, gradient.transpose(0, 1))
        return self.gates.transpose(0, 1)[: self.count]


def run(
    table: torch.Tensor,
    matrix: torch.Tensor,
    indices: torch.Tensor,
    shares: torch.Tensor,
    lengths: torch.Tensor,
) -> "UnrolledTape":
    """Step through what the rows read from ``table`` (size, 4H), with ``matrix`` (4H, H).

    ``indices`` and ``shares`` (R, T, S); ``lengths`` (R,), falling.
    """
    count, steps, _ = indices.shape
    rows, hidden = _round_up(count), matrix.shape[1]
    table, transposed = double_cell_gate(table), double_cell_gate(matrix.t()).contiguous()
    gates = matrix.new_empty(steps, rows, 4 * hidden)
    cells, all_states = (matrix.new_empty(steps + 1, rows, hidden) for _ in range(2))
    cells[0], all_states[0] = 0, 0
    squashed = matrix.new_empty(rows, hidden)
    live = live_rows(lengths, steps)
    indices, shares = (
        functional.pad(array.transpose(0, 1), (0, 0, 0, rows - count))
        for array in (indices, shares)
    )
    for start, end, block in _stretches(live):
        slab, tanh = gates[start:end, :block], squashed[:block]
        parts = [part.unbind(0) for part in slab.chunk(4, dim=2)]
        cell, state = (array[start : end + 1, :block].unbind(0) for array in (cells, all_states))
        for now, gate in enumerate(slab.unbind(0)):
            step = start + now
            sum_rows(table, indices[step, :block], shares[step, :block], gate)
            gate.addmm_(state[now], transposed)
            gate[live[step] :].zero_()
            gate.sigmoid_()
            enter, forget, doubled, leave = (part[now] for part in parts)
            after = torch.mul(forget, cell[now], out=cell[now + 1])
            after.addcmul_(enter, doubled, value=2).sub_(enter)
            torch.mul(after, 2, out=tanh).sigmoid_().mul_(2).sub_(1)
            torch.mul(leave, tanh, out=state[now + 1])
    return UnrolledTape(matrix, count, gates, cells, all_states, live)


def _turn_into_deltas(tape: UnrolledTape, gradient: torch.Tensor) -> None:
    """Overwrite the tape's gates by the gradient of the pre-activations, (T, R, 4H).

    ``gradient`` (T, R, H) is of ``states[:-1]``. It is zero where no later state is needed.
    """
    recurrent = tape.matrix
    rows, hidden = tape.gates.shape[1], recurrent.shape[1]
    matrix = functional.pad(recurrent, (0, max(0, _LEAST_COLUMNS - hidden)))
    carried, spare = (recurrent.new_zeros(rows, hidden) for _ in range(2))
    products = recurrent.new_zeros(rows, matrix.shape[1])
    done = 0
    for start, end, block in reversed(list(_slabs(tape.live, 4 * hidden))):
        factors, through = _derivatives(tape, slice(start, end), block)
        forget = tape.gates[start:end, :block, hidden : 2 * hidden].unbind(0)
        deltas = tape.gates[start:end, :block].unflatten(2, (4, hidden)).unbind(0)
        for now in range(end - start - 1, -1, -1):
            step = start + now
            if done:
                torch.mm(tape.gates[step + 1, :done], matrix, out=products[:done])
            state = products[:block, :hidden]
            true = min(block, gradient.shape[1])
            state[:true].add_(gradient[step + 1, :true])
            cell = carried[:block].addcmul_(state, through[now])
            torch.mul(cell, forget[now], out=spare[:block])
            torch.mul(cell.unsqueeze(1), factors[now][:, :3], out=deltas[now][:, :3])
            torch.mul(state, factors[now][:, 3], out=deltas[now][:, 3])
            carried, spare, done = spare, carried, block
    for step, block in enumerate(map(_round_up, tape.live)):
        tape.gates[step, block:] = 0


def _derivatives(
    tape: UnrolledTape, span: slice, block: int
) -> tuple[tuple[torch.Tensor, ...], ...]:
    """Of each step in ``span``: the gates' factors (block, 4, H), and the cell's (block, H).

    Input, forget and cell gate's are of the cell's gradient, the output gate's of the state's;
    the last turns the state's gradient into the cell's.
    """
    gates = tape.gates[span, :block]
    enter, _, doubled, leave = gates.chunk(4, dim=2)
    factors = torch.addcmul(gates, gates, gates, value=-1).unflatten(2, (4, -1))
    squashed = (tape.cells[span.start + 1 : span.stop + 1, :block] * 2).sigmoid_().mul_(2).sub_(1)
    factors[:, :, 0].mul_(torch.mul(doubled, 2).sub_(1))
    factors[:, :, 1].mul_(tape.cells[span, :block])
    factors[:, :, 2].mul_(enter).mul_(4)
    factors[:, :, 3].mul_(squashed)
    through = squashed.square_().neg_().add_(1).mul_(leave)
    return factors.unbind(0), through.unbind(0)


def live_rows(lengths: torch.Tensor, steps: int) -> list[int]:
    """How many of the rows need the state after each step: those that have a further one."""
    live: list[int] = (lengths.unsqueeze(1) > torch.arange(1, steps + 1)).sum(dim=0).tolist()
    return live


def _stretches(live: list[int]) -> Iterator[tuple[int, int, int]]:
    """(start, end, rows in whole blocks) of the steps that run the same blocks; at least one."""
    blocks = [_round_up(rows) for rows in live]
    start = 0
    for step in range(1, len(blocks) + 1):
        if step == len(blocks) or blocks[step] != blocks[start]:
            if blocks[start]:
                yield start, step, blocks[start]
            start = step


def _slabs(live: list[int], width: int) -> Iterator[tuple[int, int, int]]:
    """Stretches in parts of about ``_FLOATS_AT_ONCE`` gates, ``width`` to a row."""
    for start, end, block in _stretches(live):
        steps = max(1, _FLOATS_AT_ONCE // (block * width))
        for first in range(start, end, steps):
            yield first, min(first + steps, end), block


def _round_up(rows: int) -> int:
    return -(-rows // BLOCK) * BLOCK
