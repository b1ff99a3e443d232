"""Commands and runner meet in a run's folder."""

from pathlib import Path

import pytest

from cloister_server.checkpoint import RunState
from cloister_server.run_folder import STATUS, WANTED, Phase, RunFolder, Wanted
from cloister_shared.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, plan, weights) -> RunFolder:
    return RunFolder.make(tmp_path, RunState(plan, weights))


def test_a_run_stands_still_until_it_is_wanted(folder: RunFolder) -> None:
    assert (folder.wanted, folder.status.phase) == (Wanted.STOPPED, Phase.WAITING)
    folder.want(Wanted.RUNNING)
    assert folder.wanted is Wanted.RUNNING


def test_what_became_of_a_run_is_kept_with_its_reason(folder: RunFolder) -> None:
    folder.tell(Phase.FAILED, "round 3 needs 2 contributions")
    again = RunFolder(folder.path)
    assert (again.status.phase, again.status.reason) == (
        Phase.FAILED,
        "round 3 needs 2 contributions",
    )


def test_a_runs_name_is_taken_once(folder: RunFolder, plan, weights) -> None:
    with pytest.raises(ConfigError, match="autumn already"):
        RunFolder.make(folder.path.parent, RunState(plan, weights))
    assert [one.name for one in RunFolder.all(folder.path.parent)] == ["autumn"]
    assert folder.state().plan == plan


def test_a_folder_with_another_runs_checkpoint_is_refused(folder: RunFolder) -> None:
    moved = RunFolder(folder.path.rename(folder.path.with_name("winter")))
    (moved.path / "autumn.checkpoint").rename(moved.checkpoint)
    with pytest.raises(ConfigError, match="of run autumn"):
        moved.state()


@pytest.mark.parametrize("name", [WANTED, STATUS])
def test_files_that_say_nonsense_are_named(folder: RunFolder, name: str) -> None:
    (folder.path / name).write_text("perhaps")
    with pytest.raises(ConfigError, match=name):
        _ = (folder.wanted, folder.status)
