"""The coordinator's state after each round, in one file that is replaced atomically."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from cloister_server.aggregation import OptimizerState
from cloister_shared.durable import write_atomically, write_durably
from cloister_shared.errors import ConfigError, MessageError
from cloister_shared.frozen import Frozen
from cloister_shared.messages import join, pack, read_head, split, unpack
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan
from cloister_shared.privacy.figures import Breakdown, PrivateFigures

_WEIGHTS, _FIRST, _SECOND = "weights", "first", "second"


class RoundRecord(Frozen):
    """What the coordinator saw of one round."""

    round: int = Field(ge=1)
    seconds: float = Field(ge=0)
    bytes_down: int = Field(ge=0)
    bytes_up: int = Field(ge=0)
    participants: tuple[str, ...]
    rejected: dict[str, str]
    """Reason by node name, or by ``node ID`` where the sender did not give a name."""


class MetricRecord(Frozen):
    """What nodes released of their evaluation learners after one round, together.

    ``figures`` and ``breakdowns`` are by model kind; there are none if fewer nodes than the quorum
    gave histograms.
    """

    round: int = Field(ge=1)
    participants: tuple[str, ...]
    rejected: dict[str, str]
    figures: dict[str, PrivateFigures]
    breakdowns: dict[str, Breakdown] = Field(default_factory=dict)


class CheckpointHeader(Frozen):
    """Everything but the arrays."""

    type: Literal["checkpoint"] = "checkpoint"
    plan: Plan
    round: int = Field(ge=0)
    optimizer_steps: dict[str, int]
    records: tuple[RoundRecord, ...]
    metrics: tuple[MetricRecord, ...]


@dataclass
class RunState:
    """Weights and optimizer state by model kind after ``round`` rounds of ``plan``."""

    plan: Plan
    weights: dict[str, Weights]
    round: int = 0
    optimizers: dict[str, OptimizerState] = field(default_factory=dict)
    records: list[RoundRecord] = field(default_factory=list)
    metrics: list[MetricRecord] = field(default_factory=list)

    def optimizer(self, kind: str) -> OptimizerState:
        """The kind's optimizer state, empty at first."""
        return self.optimizers.setdefault(kind, OptimizerState())


def save_checkpoint(path: Path, state: RunState, *, durable: bool = True) -> None:
    """Write the state so that a crash leaves either the old file or the new one.

    If ``durable`` that holds for a failure of the machine too, not of this process only.
    """
    header = CheckpointHeader(
        plan=state.plan,
        round=state.round,
        optimizer_steps={kind: one.steps for kind, one in state.optimizers.items()},
        records=tuple(state.records),
        metrics=tuple(state.metrics),
    )
    sections = {
        _WEIGHTS: join(state.weights),
        _FIRST: join({kind: one.first for kind, one in state.optimizers.items()}),
        _SECOND: join({kind: one.second for kind, one in state.optimizers.items()}),
    }
    write = write_durably if durable else write_atomically
    write(path, pack(header, join(sections)))


def load_checkpoint(path: Path, plan: Plan) -> RunState | None:
    """The state in ``path`` if it is of ``plan``; ``None`` if there is no file.

    Raises ``ConfigError`` if the file is of another plan or cannot be read: starting over would
    charge the nodes for the same rounds again.
    """
    if not path.exists():
        return None
    state = read_checkpoint(path)
    if state.plan.digest != plan.digest:
        raise ConfigError(
            f"the checkpoint {path} is of another plan; give the run another name or directory"
        )
    return state


def read_header(path: Path) -> CheckpointHeader:
    """The state in ``path`` but for its arrays, which are not read; ``ConfigError`` as below."""
    try:
        return read_head(path, CheckpointHeader)
    except (MessageError, OSError) as error:
        raise ConfigError(f"the checkpoint {path} cannot be read: {error}") from error


def read_checkpoint(path: Path) -> RunState:
    """The state in ``path``; raises ``ConfigError`` if it cannot be read."""
    try:
        header, arrays = unpack(path.read_bytes(), CheckpointHeader)
        sections = {name: split(part) for name, part in split(arrays).items()}
    except (MessageError, OSError) as error:
        raise ConfigError(f"the checkpoint {path} cannot be read: {error}") from error
    optimizers = {
        kind: OptimizerState(
            steps,
            sections.get(_FIRST, {}).get(kind, {}),
            sections.get(_SECOND, {}).get(kind, {}),
        )
        for kind, steps in header.optimizer_steps.items()
    }
    weights = sections.get(_WEIGHTS, {})
    return RunState(
        header.plan,
        weights,
        header.round,
        optimizers,
        list(header.records),
        list(header.metrics),
    )
