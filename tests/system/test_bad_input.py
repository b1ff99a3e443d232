"""Bad input to the real command: one sentence, the documented exit code, and nothing is lost."""

import gzip
import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.system.simulated import CLOISTER, ROUNDS, document

from cloister_client.config import NodeConfig
from cloister_client.home import NodeHome
from cloister_client.importing import ColumnMap, read
from cloister_shared.curriculum import load_curriculum
from cloister_simulations.config import load_config
from cloister_simulations.plans import check_budget

CONFIGS = Path(__file__).parents[2] / "configs"
ANSWERS = CONFIGS / "examples" / "answers.csv"
COLUMNS = {"learner": "student", "item": "question", "correct": "right"}
HEADER, FIRST, *_ = ANSWERS.read_text("utf-8").splitlines()
LEARNER = FIRST.split(",")[0]

Write = Callable[[Path], object]


def cloister(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(CLOISTER), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


def sentence(result: subprocess.CompletedProcess[str], exit_code: int) -> str:
    """The one line on standard error."""
    assert result.returncode == exit_code, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("cloister: ")
    return line


def simulation(path: Path, **private: Any) -> Path:
    settings = document()
    settings["models"][0]["private"].update(private)
    settings["data"] = {"source": "assistments2017"}
    path.write_text(yaml.safe_dump(settings))
    return path


def test_three_mistakes_in_a_config_are_told_together(tmp_path: Path) -> None:
    path = simulation(tmp_path / "bad.yaml", rounds=0, sampling_rate=2, colour="blue")
    told = sentence(cloister("simulate", path, "--work", tmp_path / "work"), 3)
    for place in ("rounds", "sampling_rate", "colour"):
        assert f"models.0.private.{place}: " in told
    assert not (tmp_path / "work").exists()


def test_a_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    told = sentence(cloister("simulate", tmp_path / "none.yaml"), 3)
    assert "none.yaml: No such file" in told


def test_an_output_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    path = simulation(tmp_path / "good.yaml")
    result = cloister("simulate", path, "--json", tmp_path / "none" / "result.json")
    assert "none/result.json: it must be a file in a folder that is there" in sentence(result, 3)


def test_a_plan_beyond_the_budget_is_refused_before_data_is_looked_for(tmp_path: Path) -> None:
    empty = tmp_path / "data"
    empty.mkdir()
    path, work = simulation(tmp_path / "beyond.yaml", noise_multiplier=0.8), tmp_path / "work"
    result = cloister("simulate", path, "--work", work, "--quiet", CLOISTER_DATA=str(empty))
    told = sentence(result, 5)
    fit = int(told.split("at most ")[1].removesuffix(" rounds would fit"))
    assert 0 < fit < ROUNDS
    assert not work.exists()
    check_budget(load_config(simulation(path, noise_multiplier=0.8, rounds=fit)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    """A node that holds the example's answers."""
    curriculum = load_curriculum(CONFIGS / "curriculum" / "example.json")
    config = NodeConfig(name="school-a", declared_size=50)
    home = NodeHome.create(tmp_path_factory.mktemp("node") / "home", config, curriculum)
    with home.store() as store:
        store.import_interactions(read(ANSWERS, "csv", ColumnMap(**COLUMNS, when="answered_at")))
    return home


def held(home: NodeHome) -> list[str]:
    """Everything in the store."""
    connection = sqlite3.connect(home.path / "store.sqlite")
    dump = list(connection.iterdump())
    connection.close()
    return dump


def after_a_good_one(line: str) -> Write:
    return lambda path: path.write_text("\n".join([HEADER, FIRST, line]) + "\n", "utf-8")


def with_a_skill(skill: str) -> Write:
    table = f"student,question,right,skill\n{LEARNER},fractions-fill,1,{skill}\n"
    return lambda path: path.write_text(table)


def truncated(path: Path) -> None:
    whole = gzip.compress(ANSWERS.read_bytes())
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("write", "told", "column"),
    [
        (lambda path: path.write_text(f"student,question\n{LEARNER},x\n"), "lacks the column", ""),
        (after_a_good_one(f"{LEARNER},fractions-fill,2,"), "label of an answer must be 0 or 1", ""),
        (
            after_a_good_one(f"{LEARNER},unheard-of,1,"),
            "line 3: the item is not in the curriculum",
            "",
        ),
        (with_a_skill("flying"), "line 2: the skill is not in the curriculum", "skill=skill"),
        (lambda path: path.write_text(""), "answers.csv is empty", ""),
        (truncated, "answers.csv is a damaged gzip file", ""),
    ],
    ids=["column", "label", "item", "skill", "empty", "gzip"],
)
def test_a_bad_file_of_answers_imports_nothing(
    home: NodeHome, tmp_path: Path, write: Write, told: str, column: str
) -> None:
    path = tmp_path / "answers.csv"
    write(path)
    before = held(home)
    pairs = [*(f"{field}={name}" for field, name in COLUMNS.items()), *filter(None, [column])]
    options = [part for pair in pairs for part in ("--column", pair)]
    line = sentence(cloister("node", "import", home.path, path, *options), 4)
    assert told in line
    assert LEARNER not in line
    assert held(home) == before
