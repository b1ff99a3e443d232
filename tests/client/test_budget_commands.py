"""``cloister node budget``: what still fits, and the plot."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cloister_client.budget_plot import COLOURS, curves, plot_spend
from cloister_client.commands import app
from cloister_client.config import NodeConfig
from cloister_client.home import NodeHome
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import ConfigError, LedgerError
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import MetricPlan, ModelPlan, Plan
from cloister_shared.privacy import Mechanism, NonPrivate, SampledGaussian
from cloister_shared.privacy.ledger_format import Charge, ModelEvent

NOISY = SampledGaussian(noise_multiplier=1.5, sampling_rate=0.25, steps=2)
LIKE_IT = ["--noise-multiplier", "1.5", "--sampling-rate", "0.25", "--steps", "2"]
Charging = Callable[..., None]


def invoke(*arguments: str | Path) -> Result:
    words = ["budget", *map(str, arguments)]
    return CliRunner().invoke(app, words, env={"COLUMNS": "160"})


def output(*arguments: str | Path) -> dict[str, Any]:
    result = invoke(*arguments, "--json")
    if result.exception:
        raise result.exception
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def fits(*arguments: str | Path) -> dict[tuple[str, str], int]:
    found = output(*arguments)["fits"]
    return {(one["role"], one["cohort"]): one["rounds_that_fit"] for one in found}


@pytest.fixture
def node(tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum) -> Path:
    config = node_config.model_copy(update={"cohorts": ("autumn", "spring")})
    NodeHome.create(tmp_path / "node", config, curriculum)
    return tmp_path / "node"


@pytest.fixture
def charge(node: Path) -> Charging:
    def charge_round(run: str, number: int, *cohorts: str, **changes: Any) -> None:
        fields = {
            "run": run,
            "round": number,
            "plan": "p",
            "request": "r",
            "cohorts": cohorts,
            "events": (ModelEvent(model="dkt", event=NOISY),),
            **changes,
        }
        ledger = NodeHome.open(node).ledger()
        ledger.reserve(Charge.model_validate(fields))
        ledger.close()

    return charge_round


def plan_of(rounds: int, noise_multiplier: float, metrics: MetricPlan | None = None) -> Plan:
    mechanism = Mechanism(noise_multiplier=noise_multiplier, clip_norm=0.5, sampling_rate=0.1)
    model = ModelPlan(spec=DktSpec(skills=4, hidden=2), rounds=rounds, mechanism=mechanism)
    return Plan(
        run="next",
        curriculum="c",
        models=(model,),
        declared_sizes={"school-a": 50},
        metrics=metrics,
    )


@pytest.fixture
def plan_file(tmp_path: Path) -> Callable[[Plan], Path]:
    def write(plan: Plan) -> Path:
        file = tmp_path / "plan.json"
        file.write_text(plan.model_dump_json())
        return file

    return write


def test_of_a_mechanism_as_many_rounds_fit_as_the_ledger_grants(
    node: Path, charge: Charging
) -> None:
    charge("r", 1, "autumn")
    told = fits(node, *LIKE_IT)
    assert set(told) == {
        (role, one) for role in ("train", "evaluation") for one in ("autumn", "spring")
    }
    assert told["train", "spring"] == told["train", "autumn"] + 1
    for number in range(2, 2 + told["train", "autumn"]):
        charge("r", number, "autumn")
    assert fits(node, *LIKE_IT)["train", "autumn"] == 0


def test_steps_are_one_unless_more_are_asked_for(node: Path) -> None:
    once = fits(node, *LIKE_IT[:4])
    assert once["train", "autumn"] // 2 in (
        fits(node, *LIKE_IT)["train", "autumn"] + extra for extra in (0, 1)
    )


def test_of_a_plan_the_rounds_that_each_cohort_can_pay_for_are_told(
    node: Path, charge: Charging, plan_file: Callable[[Plan], Path]
) -> None:
    file = plan_file(plan_of(300, 1.2))
    before = fits(node, "--plan", file)
    for number in range(3):
        charge("r", number, "autumn")
    after = fits(node, "--plan", file)
    assert after["train", "spring"] == before["train", "spring"]
    assert after["train", "autumn"] < before["train", "autumn"]
    assert 0 < before["train", "autumn"] < 300
    assert ("evaluation", "autumn") not in before
    shown = invoke(node, "--plan", file).stdout
    assert f"{after['train', 'autumn']} of the 300 planned" in shown


def test_a_plan_that_fits_is_granted_all_its_rounds_and_metrics_are_asked_of_the_other_role(
    node: Path, plan_file: Callable[[Plan], Path]
) -> None:
    metrics = MetricPlan(every_rounds=10, noise_multiplier=30)
    found = fits(node, "--plan", plan_file(plan_of(40, 5.0, metrics)))
    assert {role: rounds for (role, _), rounds in found.items()} == {"train": 40, "evaluation": 4}


def test_of_a_plan_without_noise_no_round_fits(
    node: Path, plan_file: Callable[[Plan], Path]
) -> None:
    assert set(fits(node, "--plan", plan_file(plan_of(3, 0.0))).values()) == {0}


def test_nothing_is_said_of_what_nobody_asked(node: Path) -> None:
    assert "fits" not in output(node)
    assert "still fit" not in invoke(node).stdout


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--noise-multiplier", "4"], "--sampling-rate"),
        (["--sampling-rate", "0.1"], "--noise-multiplier"),
        (["--steps", "3"], "--noise-multiplier"),
        (["--noise-multiplier", "0", "--sampling-rate", "1"], "noise_multiplier"),
        (["--noise-multiplier", "nan", "--sampling-rate", "1"], "noise_multiplier"),
        (["--noise-multiplier", "1", "--sampling-rate", "1.5"], "sampling_rate"),
        ([*LIKE_IT[:4], "--steps", "0"], "steps"),
        (["--plan", "plan.json", "--steps", "3"], "not for both"),
        (["--plan", "nowhere.json"], "nowhere.json"),
        (["--plot", "budget.pdf"], "'budget.pdf'"),
        (["--plot", "nowhere/budget.png"], "cannot write"),
    ],
)
def test_a_mistaken_question_is_one_sentence_and_ends_with_3(
    node: Path, asked: list[str], said: str
) -> None:
    error = invoke(node, *asked).exception
    assert isinstance(error, ConfigError)
    assert error.exit_code == 3
    assert said in str(error)
    assert "\n" not in str(error)


def test_a_file_that_is_no_plan_is_a_config_error(node: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text('{"run": "next", "surprise": 1}')
    error = invoke(node, "--plan", file).exception
    assert isinstance(error, ConfigError)
    assert "surprise" in str(error)


@pytest.mark.parametrize(("name", "begins"), [("b.png", b"\x89PNG"), ("b.svg", b"<?xml")])
def test_a_plot_is_written_and_never_overwritten(
    node: Path, charge: Charging, tmp_path: Path, name: str, begins: bytes
) -> None:
    charge("r", 1, "autumn", "spring")
    file = tmp_path / name
    assert invoke(node, "--plot", file).exit_code == 0
    drawn = file.read_bytes()
    assert drawn.startswith(begins)
    error = invoke(node, "--plot", file).exception
    assert isinstance(error, ConfigError)
    assert file.read_bytes() == drawn


def test_a_plot_names_role_cohort_run_and_limit(
    node: Path, charge: Charging, tmp_path: Path
) -> None:
    charge("first-run", 1, "autumn")
    charge("$second$", 1, "autumn", "spring")
    charge("seen", 1, "spring", role="evaluation")
    file = tmp_path / "b.svg"
    assert invoke(node, "--plot", file).exit_code == 0
    drawn = file.read_text()
    for words in ("train, autumn", "evaluation, spring", "first-run", "$second$", "limit: ε = 4"):
        assert words in drawn


def test_an_unspent_budget_is_drawn_too(node: Path, tmp_path: Path) -> None:
    assert invoke(node, "--plot", tmp_path / "b.svg").exit_code == 0
    assert "nothing is spent" in (tmp_path / "b.svg").read_text()


def test_a_curve_is_what_a_cohort_was_charged_in_the_ledgers_order(
    node: Path, charge: Charging
) -> None:
    charge("a", 1, "autumn")
    charge("b", 1, "autumn", "spring")
    ledger = NodeHome.open(node).ledger()
    export = ledger.export()
    ledger.close()
    drawn = curves(export.entries)
    price = export.entries[0].cost
    assert drawn["train", "autumn"].runs == ["a", "b"]
    assert drawn["train", "autumn"].micro == [price, 2 * price]
    assert drawn["train", "spring"].micro == [price]


def test_what_has_no_bound_is_not_drawn_as_if_it_had(exported) -> None:
    bare = (ModelEvent(model="dkt", event=NonPrivate()),)
    export = exported([("noisy", None), ("bare", bare), ("noisy", None)])
    (curve,) = curves(export.entries).values()
    assert curve.unbounded
    assert curve.runs == ["noisy"]
    figure = plot_spend(export.header, curves(export.entries))
    assert "without bound" in figure.axes[0].get_title(loc="left")
    assert any("NOT ENFORCED" in text.get_text() for text in figure.legends[0].get_texts())


def test_more_runs_than_colours_share_one_grey(exported) -> None:
    export = exported([(f"run-{number}", None) for number in range(len(COLOURS) + 3)])
    figure = plot_spend(export.header, curves(export.entries))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[-1] == "3 further runs"
    assert len(names) == 1 + len(COLOURS) + 1


@pytest.fixture
def exported() -> Callable[..., Any]:
    """The export of a ledger in memory that enforces nothing, of runs and their events."""
    from cloister_client.ledger import MemoryLedger
    from cloister_shared.privacy import Budget

    def export(charges: list[tuple[str, tuple[ModelEvent, ...] | None]]) -> Any:
        ledger = MemoryLedger(Budget(epsilon=4, delta=1e-6), enforced=False)
        for number, (run, events) in enumerate(charges):
            ledger.reserve(
                Charge(
                    run=run,
                    round=number,
                    plan="p",
                    request="r",
                    cohorts=("all",),
                    events=events or (ModelEvent(model="dkt", event=NOISY),),
                )
            )
        return ledger.export()

    return export


def test_a_plot_of_an_altered_ledger_is_refused(
    node: Path, charge: Charging, tmp_path: Path
) -> None:
    """The table reads only the newest entries; a picture shows them all, so all are verified."""
    import sqlite3

    charge("r", 1, "autumn")
    with sqlite3.connect(node / "ledger.sqlite") as connection:
        connection.execute("DROP TRIGGER entries_stay")
        connection.execute("UPDATE entries SET text = replace(text, '\"autumn\"', '\"spring\"')")
    connection.close()
    assert isinstance(invoke(node, "--plot", tmp_path / "b.png").exception, LedgerError)
    assert not (tmp_path / "b.png").exists()


def test_without_a_plot_nothing_is_imported_that_draws(node: Path) -> None:
    asked = (
        "import sys; from typer.testing import CliRunner; from cloister_client import commands; "
        f"CliRunner().invoke(commands.app, ['budget', {str(node)!r}]); "
        "print([name for name in ('matplotlib', 'torch', 'scipy.signal') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
