"""What the benchmark ``simulation`` asks of a contender, and what it gets back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Protocol

from cloister_shared.errors import RunError
from cloister_simulations.benchmarks.peers.workload import Job


class ContenderError(RunError):
    """A contender cannot run here; the others still do."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One contender's run of one job with ``cohort`` clients a round.

    ``start_up`` is in seconds, from the start to the end of the first round; ``seconds`` are those
    of the rounds after it.
    """

    cohort: int
    start_up: float
    seconds: Sequence[float]
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, job: Job, began: float, round_ends: Sequence[float], versions: Mapping[str, str]
    ) -> "Measurement":
        """From times of one clock; ``ContenderError`` unless every round of the job ended."""
        if len(round_ends) != job.rounds or job.rounds < 2:
            raise ContenderError(
                f"{job.rounds} rounds were asked, at least 2 are needed, {len(round_ends)} ended"
            )
        seconds = [after - before for before, after in pairwise(round_ends)]
        return cls(job.cohort, round_ends[0] - began, seconds, versions)

    @property
    def ms_per_client(self) -> float:
        """Median milliseconds of a round over its clients' number."""
        return 1000 * median(self.seconds) / self.cohort


class Contender(Protocol):
    """Something that can do the benchmark's jobs."""

    @property
    def name(self) -> str:
        """What the rows of the result call it."""

    def run(self, job: Job) -> Measurement:
        """Do the job; ``ContenderError`` says in a sentence why it cannot be done here."""
