"""``cloister node …`` as an administrator types it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from cloister_client.commands import app
from cloister_client.config import NodeConfig
from cloister_client.home import NodeHome
from cloister_client.ledger import SqliteLedger
from cloister_shared.curriculum import Curriculum, load_curriculum
from cloister_shared.errors import BudgetExceededError, ConfigError, DataError
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.privacy import LedgerExport, NonPrivate, SampledGaussian, verify_ledger
from cloister_shared.privacy.ledger_format import Charge, ModelEvent

COLUMNS = ["--column", "learner=pupil", "--column", "item=task", "--column", "correct=right"]
TABLE = "pupil,task,right\nada,i0,1\nada,i1,0\nben,i0,1\n"
NOISY = SampledGaussian(noise_multiplier=4.0, sampling_rate=0.1, steps=2)


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "160"})


def output(*arguments: str | Path) -> dict[str, Any]:
    """The JSON document that a command prints; its error, if it failed."""
    result = invoke(*arguments, "--json")
    if result.exception:
        raise result.exception
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.csv"
    path.write_text(TABLE)
    return path


@pytest.fixture
def node(tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum) -> Path:
    NodeHome.create(tmp_path / "node", node_config, curriculum)
    return tmp_path / "node"


@pytest.fixture
def charge(node: Path) -> Callable[..., None]:
    """Charge one round to the node's ledger."""

    def charge_round(run: str, round_number: int, *cohorts: str) -> None:
        ledger = NodeHome.open(node).ledger()
        events = (ModelEvent(model="dkt", event=NOISY),)
        ledger.reserve(
            Charge(
                run=run, round=round_number, plan="p", request="r", cohorts=cohorts, events=events
            )
        )
        ledger.close()

    return charge_round


def test_a_node_is_made_of_a_config_and_a_curriculum(
    tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum
) -> None:
    config = tmp_path / "node.yaml"
    config.write_text(yaml.safe_dump(node_config.model_dump(mode="json")))
    curriculum.save(tmp_path / "curriculum.json")
    arguments = ["--config", config, "--curriculum", tmp_path / "curriculum.json"]
    assert output("init", tmp_path / "node", *arguments)["name"] == "school-a"
    assert NodeHome.open(tmp_path / "node").config == node_config
    with pytest.raises(ConfigError, match="is not empty"):
        output("init", tmp_path / "node", *arguments)


def test_importing_a_file_twice_changes_nothing(node: Path, answers: Path) -> None:
    first = output("import", node, answers, *COLUMNS)
    assert (first["added"], first["learners_added"]) == (3, 2)
    again = output("import", node, answers, *COLUMNS)
    assert (again["added"], again["already_there"]) == (0, 3)


def test_learners_join_the_latest_term_of_the_calendar(
    tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum, answers: Path
) -> None:
    config = node_config.model_copy(update={"cohorts": ("2024", "2025")})
    NodeHome.create(tmp_path / "home", config, curriculum)
    output("import", tmp_path / "home", answers, *COLUMNS)
    with NodeHome.open(tmp_path / "home").store() as store:
        assert len(store.learners("serve", ["2025"])) == 2


def test_a_term_outside_the_calendar_is_refused(node: Path, answers: Path) -> None:
    with pytest.raises(ConfigError, match="'2031' is not in the node's calendar"):
        output("import", node, answers, *COLUMNS, "--cohort", "2031")


def test_a_bad_file_imports_nothing(node: Path, answers: Path) -> None:
    answers.write_text(TABLE + "ben,unheard-of,1\n")
    with pytest.raises(DataError, match="line 5: the item is not in the curriculum"):
        output("import", node, answers, *COLUMNS)
    assert output("status", node)["interactions"] == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["learner"], "takes FIELD=COLUMN, found 'learner'"),
        (["learner=a", "learner=b"], "names a column for learner twice"),
        (["learner=a", "colour=b"], "item: Field required.*colour: .*known fields: learner"),
    ],
)
def test_a_wrong_column_option_is_explained(
    node: Path, answers: Path, columns: list[str], message: str
) -> None:
    options = [part for column in columns for part in ("--column", column)]
    with pytest.raises(ConfigError, match=message):
        output("import", node, answers, *options)


def test_swapped_columns_show_no_learner(node: Path, answers: Path) -> None:
    swapped = ["--column", "learner=task", "--column", "item=pupil", "--column", "correct=right"]
    with pytest.raises(DataError, match="lines 2, 3, 4: the item") as caught:
        output("import", node, answers, *swapped)
    for learner in ("ada", "ben"):
        assert learner not in str(caught.value)


def test_rows_without_a_skill_are_told_only_where_there_are_some(node: Path, answers: Path) -> None:
    assert "rows_without_skill" not in output("import", node, answers, *COLUMNS)
    answers.write_text(
        "order_id,user_id,problem_id,correct,skill_id,skill_name\n1,ada,i0,1,1,s0\n2,ada,i0,1,,\n"
    )
    assert output("import", node, answers, "--format", "assistments")["rows_without_skill"] == 1


def test_a_curriculum_is_made_of_a_public_export_and_never_overwritten(tmp_path: Path) -> None:
    export, made = tmp_path / "export.csv", tmp_path / "curriculum.json"
    export.write_text(
        "order_id,user_id,problem_id,correct,skill_id,skill_name\n1,1,50,1,1,Mean\n2,1,51,1,2,Mode\n"
    )
    options = ["--name", "public", "--output", made]
    assert output("curriculum", export, *options) == {"file": str(made), "skills": 2, "items": 2}
    assert load_curriculum(made).name == "public"
    with pytest.raises(ConfigError, match=r"cannot write .* File exists"):
        output("curriculum", export, *options)


def test_a_curriculum_is_made_of_public_files_only(tmp_path: Path) -> None:
    shown = " ".join(invoke("curriculum", "--help").stdout.split())
    assert "Never of your own learners' answers" in shown


def test_status_tells_what_is_held(node: Path, answers: Path) -> None:
    output("import", node, answers, *COLUMNS)
    document = output("status", node)
    assert (document["learners"], document["interactions"]) == (2, 3)
    assert document["active_models"] == {}


def test_an_unspent_budget_says_so(node: Path) -> None:
    document = output("budget", node)
    assert (document["epsilon_limit"], document["groups"], document["runs"]) == (4.0, [], [])
    assert "Nothing is spent" in invoke("budget", node).stdout


def test_the_budget_is_told_by_cohort_and_by_run(node: Path, charge: Callable[..., None]) -> None:
    charge("autumn", 1, "2024", "2025")
    charge("autumn", 2, "2024", "2025")
    charge("spring", 1, "2025")
    document = output("budget", node)
    groups = {group["cohort"]: group for group in document["groups"]}
    runs = {(run["run"], run["cohort"]): run for run in document["runs"]}
    price = runs["spring", "2025"]["spent_micro_rdp"]
    assert price > 0
    assert groups["2024"]["spent_micro_rdp"] == 2 * price
    assert groups["2025"]["spent_micro_rdp"] == 3 * price
    assert groups["2025"]["remaining_micro_rdp"] == document["limit_micro_rdp"] - 3 * price
    assert 0 < groups["2024"]["epsilon_pld"] < groups["2024"]["epsilon_rdp"] < 4
    assert runs["autumn", "2024"]["charges"] == 2
    for cohort, rounds in (("2024", 2), ("2025", 3)):
        fit = runs["autumn", cohort]["rounds_that_fit"]
        assert fit == document["limit_micro_rdp"] // price - rounds


def test_as_many_rounds_fit_as_the_budget_says(node: Path, charge: Callable[..., None]) -> None:
    charge("autumn", 1, "2024")
    (run,) = output("budget", node)["runs"]
    ledger = NodeHome.open(node).ledger()
    last = ledger.export().entries[0].charge
    for number in range(run["rounds_that_fit"]):
        ledger.reserve(last.model_copy(update={"round": 2 + number}))
    with pytest.raises(BudgetExceededError):
        ledger.reserve(last.model_copy(update={"round": 10_000}))
    ledger.close()


def test_the_budget_for_people_names_every_run(node: Path, charge: Callable[..., None]) -> None:
    charge("autumn", 1, "2024")
    shown = invoke("budget", node).stdout
    for word in ("autumn", "2024", "train", "Limit: ε 4 at δ 1e-06"):
        assert word in shown


def test_an_infinite_spend_is_valid_json(
    node: Path, node_config: NodeConfig, curriculum: Curriculum
) -> None:
    (node / "ledger.sqlite").unlink()
    budget = node_config.policy.budget
    key = NodeHome(node, node_config, curriculum).signing_key()
    ledger = SqliteLedger.create(node / "ledger.sqlite", budget, key, enforced=False)
    events = (ModelEvent(model="dkt", event=NonPrivate()),)
    ledger.reserve(Charge(run="r", round=1, plan="p", request="q", cohorts=("all",), events=events))
    ledger.close()
    (group,) = output("budget", node)["groups"]
    assert (group["spent_micro_rdp"], group["epsilon_pld"], group["epsilon_rdp"]) == (None,) * 3
    assert [run["rounds_that_fit"] for run in output("budget", node)["runs"]] == [0]
    assert "∞" in invoke("budget", node).stdout


def test_one_who_opts_out_is_trained_on_no_more_until_they_opt_in(
    node: Path, answers: Path
) -> None:
    output("import", node, answers, *COLUMNS)
    before = output("status", node)
    for learner in ("ada", "ben"):
        assert output("opt-out", node, learner)["learner_is_known"]
    during = output("status", node)
    eligible = ("eligible_for_training", "eligible_for_evaluation")
    assert [during[name] for name in eligible] == [0, 0]
    assert during["learners"] == before["learners"] == 2
    for learner in ("ada", "ben"):
        output("opt-in", node, learner)
    assert output("status", node) == before
    assert not output("opt-out", node, "nobody")["learner_is_known"]


def test_erasing_deletes_what_was_held(node: Path, answers: Path) -> None:
    output("import", node, answers, *COLUMNS)
    assert output("erase", node, "ada") == {"records_were_held": True}
    assert output("erase", node, "ada") == {"records_were_held": False}
    assert output("status", node)["interactions"] == 1


def test_who_is_readmitted_can_be_imported_again(node: Path, answers: Path) -> None:
    output("import", node, answers, *COLUMNS)
    output("erase", node, "ada")
    assert output("import", node, answers, *COLUMNS)["added"] == 0
    assert output("readmit", node, "ada") == {"records_are_held": False}
    assert output("import", node, answers, *COLUMNS)["added"] > 0
    assert "Nothing to undo" in invoke("readmit", node, "ada").stdout


@pytest.mark.parametrize("command", ["erase", "opt-out", "opt-in"])
def test_a_learner_who_is_not_held_does_not_look_like_one_who_is(
    node: Path, answers: Path, command: str
) -> None:
    output("import", node, answers, *COLUMNS)
    result = invoke(command, node, "nobody")
    assert result.exit_code == 0
    assert result.stdout.startswith("No learner of this id is held here; ")
    assert "No learner" not in invoke(command, node, "ada").stdout


def test_the_help_of_erase_says_that_it_is_for_ever() -> None:
    shown = " ".join(invoke("erase", "--help").stdout.split())
    assert "What was deleted cannot be brought back: later imports and live answers" in shown


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_a_port_that_does_not_exist_is_refused(node: Path, port: str) -> None:
    result = invoke("serve", node, f"--port={port}")
    assert result.exit_code == 2
    assert "0<=x<=65535" in result.output


def test_an_exported_ledger_can_be_verified_and_is_not_overwritten(
    node: Path, tmp_path: Path, charge: Callable[..., None]
) -> None:
    charge("autumn", 1, "2024")
    file = tmp_path / "ledger.json"
    assert output("export-ledger", node, file)["entries"] == 1
    spend = verify_ledger(LedgerExport.model_validate_json(file.read_bytes()))
    assert spend.keys() == {("train", "2024")}
    with pytest.raises(ConfigError, match=r"cannot write .* File exists"):
        output("export-ledger", node, file)


@pytest.mark.parametrize(
    "command",
    [["status"], ["budget"], ["opt-out", "ada"], ["erase", "ada"], ["export-ledger", "x"]],
)
def test_a_folder_that_is_no_node_is_named(tmp_path: Path, command: list[str]) -> None:
    with pytest.raises(ConfigError, match="is no node's home"):
        output(command[0], tmp_path, *command[1:])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*: File name too long"):
        output("status", tmp_path / ("x" * 300))


def test_a_narrow_terminal_cuts_no_title_and_no_model_version(node: Path) -> None:
    spec = DktSpec(skills=4, hidden=2)
    home = NodeHome.open(node)
    with home.store() as store:
        kept = store.add_model_version(spec, spec.initial_weights(home.curriculum, 1), "p", 1)
        store.activate("dkt", kept.version)
    shown = CliRunner().invoke(app, ["status", str(node)], env={"COLUMNS": "50"}).stdout
    assert kept.version in "".join(re.findall(r"[\w:]+", shown.replace("active models", "")))
    title = CliRunner().invoke(app, ["erase", str(node), "x"], env={"COLUMNS": "30"}).stdout
    assert "answers of this id that come later are left out" in title


def test_people_are_shown_tables(node: Path, answers: Path) -> None:
    assert "learners added" in invoke("import", node, answers, *COLUMNS).stdout
    assert "school-a" in invoke("status", node).stdout
    assert "yes" in invoke("erase", node, "ada").stdout
