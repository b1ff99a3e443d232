"""The coordinator's state survives any crash, exactly, or says that it did not."""

import os
from pathlib import Path
from stat import S_ISDIR

import numpy as np
import pytest

from cloister_server.aggregation import OptimizerState
from cloister_server.checkpoint import (
    RoundRecord,
    RunState,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from cloister_shared.errors import ConfigError
from cloister_shared.messages import Receipt, pack
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "autumn.checkpoint"


@pytest.fixture
def state(plan: Plan, weights: dict[str, Weights]) -> RunState:
    record = RoundRecord(
        round=1,
        seconds=0.25,
        bytes_down=10,
        bytes_up=20,
        participants=("north", "süd"),
        rejected={"west": "refused: budget", "node 9": 'holds "nothing"'},
    )
    moments = {name: array * np.float32(1e-20) for name, array in weights["dkt"].items()}
    optimizers = {"dkt": OptimizerState(3, moments, weights["dkt"])}
    return RunState(plan, weights, 1, optimizers, [record])


def assert_equal(one: RunState, other: RunState) -> None:
    assert one.plan == other.plan
    assert one.round == other.round
    assert one.records == other.records
    assert one.weights.keys() == other.weights.keys()
    for kind, arrays in one.weights.items():
        for name, array in arrays.items():
            assert array.tobytes() == other.weights[kind][name].tobytes()
    for kind, optimizer in one.optimizers.items():
        assert optimizer.steps == other.optimizers[kind].steps
        for mine, theirs in (
            (optimizer.first, other.optimizers[kind].first),
            (optimizer.second, other.optimizers[kind].second),
        ):
            assert {n: a.tobytes() for n, a in mine.items()} == {
                n: a.tobytes() for n, a in theirs.items()
            }


def test_a_state_comes_back_exactly(path: Path, state: RunState, plan: Plan) -> None:
    save_checkpoint(path, state)
    again = load_checkpoint(path, plan)
    assert_equal(state, again)
    assert_equal(state, read_checkpoint(path))


def test_a_state_without_optimizers_comes_back(
    path: Path, plan: Plan, weights: dict[str, Weights]
) -> None:
    save_checkpoint(path, RunState(plan, weights))
    again = load_checkpoint(path, plan)
    assert again.optimizers == {}
    assert again.optimizer("dkt").steps == 0


def test_the_same_state_is_the_same_bytes(path: Path, state: RunState) -> None:
    save_checkpoint(path, state)
    first = path.read_bytes()
    save_checkpoint(path, state)
    assert path.read_bytes() == first


def test_without_a_file_there_is_no_state(path: Path, plan: Plan) -> None:
    assert load_checkpoint(path, plan) is None


class PowerCutError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moment", ["pathlib.Path.replace", "os.fdopen"])
def test_a_crash_while_writing_leaves_the_old_state(
    path: Path, state: RunState, plan: Plan, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    save_checkpoint(path, state)
    later = RunState(plan, state.weights, 2, state.optimizers, state.records)

    def cut(*_: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(moment, cut)
        with pytest.raises(PowerCutError):
            save_checkpoint(path, later)
    assert load_checkpoint(path, plan).round == 1
    save_checkpoint(path, later)
    assert load_checkpoint(path, plan).round == 2


def test_a_file_half_written_by_a_crash_is_never_read(
    path: Path, state: RunState, plan: Plan
) -> None:
    path.with_name(path.name + ".partial").write_bytes(b"half of it")
    assert load_checkpoint(path, plan) is None
    save_checkpoint(path, state)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_another_plans_checkpoint_is_refused_and_kept(
    path: Path, state: RunState, plan: Plan
) -> None:
    save_checkpoint(path, state)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another plan"):
        load_checkpoint(path, plan.model_copy(update={"quorum": 1}))
    assert path.read_bytes() == before


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 4200, -1])
def test_a_truncated_file_is_refused(path: Path, state: RunState, plan: Plan, keep: int) -> None:
    save_checkpoint(path, state)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_checkpoint(path, plan)


def test_something_else_is_refused(path: Path, plan: Plan) -> None:
    for content in (b"garbage", pack(Receipt(plan="p", round=1, node="n"))):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="cannot be read"):
            load_checkpoint(path, plan)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_checkpoint(path.parent)


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_checkpoint_is_flushed_before_and_after_it_gets_its_name(
    path: Path, state: RunState, plan: Plan, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    flushed: list[bool] = []
    monkeypatch.setattr(
        "os.fsync", lambda number: flushed.append(S_ISDIR(os.fstat(number).st_mode))
    )
    save_checkpoint(path, state, durable=durable)
    assert flushed == ([False, True] if durable else [])
    read = load_checkpoint(path, plan)
    assert read is not None
    assert_equal(read, state)
