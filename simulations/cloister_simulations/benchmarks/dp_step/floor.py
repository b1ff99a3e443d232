"""The machine's arithmetic floor: what the recurrence must at least multiply."""

import torch

from cloister_simulations.benchmarks.dp_step.workload import Shape, histories


class Products:
    """The recurrence's three products over all answers at once, and nothing else.

    Forward, back to the states, and back to the matrix: 24 · answers · units² operations.
    """

    def __init__(self, shape: Shape) -> None:
        answers, hidden = sum(map(len, histories(shape))), shape.hidden
        self.states, self.gates = torch.rand(answers, hidden), torch.rand(answers, 4 * hidden)
        self.matrix = torch.rand(hidden, 4 * hidden)

    def step(self) -> None:
        """The three products."""
        torch.mm(self.states, self.matrix)
        torch.mm(self.gates, self.matrix.t())
        torch.mm(self.states.t(), self.gates)
