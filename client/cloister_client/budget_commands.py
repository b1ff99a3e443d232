"""``cloister node budget`` and ``export-ledger``: what is spent, for oneself and for an auditor."""

from itertools import product
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from cloister_client.arguments import Folder
from cloister_client.home import NodeHome
from cloister_shared.errors import ConfigError
from cloister_shared.frozen import describe
from cloister_shared.plan import Plan
from cloister_shared.printing import AsJson, print_budget, print_fits, print_json, show
from cloister_shared.privacy.budget_fit import Fit, mechanism_fits, plan_fits
from cloister_shared.privacy.budget_report import report_budget
from cloister_shared.privacy.events import SampledGaussian
from cloister_shared.privacy.ledger_format import ROLES, LedgerExport, LedgerHeader
from cloister_shared.privacy.ledger_totals import Totals
from cloister_shared.yaml_config import load_yaml

Question = Plan | SampledGaussian
"""What may be asked whether it still fits: a plan, or one round of a mechanism."""


def budget(
    folder: Folder,
    *,
    plan: Annotated[
        Path | None, typer.Option(help="A plan, YAML or JSON: how many of its rounds still fit?")
    ] = None,
    noise_multiplier: Annotated[
        float | None, typer.Option(help="How many rounds of such noise still fit?")
    ] = None,
    sampling_rate: Annotated[
        float | None, typer.Option(help="Share of learners that a step draws; 1: everybody.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of such a round; 1 by default.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw it, charge by charge: a new .png or .svg file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the privacy budget: limit, spent and left by role and cohort, and by run.

    With a plan or a mechanism also what still fits, for every role and cohort of the calendar. With
    --plot every entry is verified first.
    """
    question = _question(plan, noise_multiplier, sampling_rate, steps)
    home = NodeHome.open(folder)
    header, totals = home.totals()
    report = report_budget(header, totals)
    fits = _fits(home, header, totals, question)
    if plot is not None:
        _plot(home, plot)
    if as_json:
        answer = {"fits": [one.model_dump(mode="json") for one in fits]} if question else {}
        print_json({**report.model_dump(mode="json"), **answer})
        return
    print_budget(report)
    if question is not None:
        print_fits(fits)


def export_ledger(
    folder: Folder,
    file: Annotated[Path, typer.Argument(help="Where to write it; must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Write the privacy ledger for an auditor; it names no learner."""
    export = _export(NodeHome.open(folder))
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(export.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
    show("Exported", {"file": str(file), "entries": len(export.entries)}, as_json)


def _question(
    plan: Path | None,
    noise_multiplier: float | None,
    sampling_rate: float | None,
    steps: int | None,
) -> Question | None:
    """What was asked; ``ConfigError`` unless it is one thing, and all of it."""
    given = {
        "noise_multiplier": noise_multiplier,
        "sampling_rate": sampling_rate,
        "steps": steps,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    if plan is not None and asked:
        raise ConfigError("ask for --plan or for a mechanism, not for both")
    if plan is not None:
        return load_yaml(plan, Plan)
    if not asked:
        return None
    try:
        return SampledGaussian.model_validate({"steps": 1, **asked})
    except ValidationError as error:
        raise ConfigError(
            "a mechanism is asked for with --noise-multiplier and --sampling-rate, and --steps if "
            f"there are more than one: {describe(error)}"
        ) from error


def _fits(
    home: NodeHome, header: LedgerHeader, totals: Totals, question: Question | None
) -> tuple[Fit, ...]:
    groups = list(product(ROLES, home.config.cohorts))
    if isinstance(question, Plan):
        return plan_fits(header, totals, groups, question)
    return () if question is None else mechanism_fits(header, totals, groups, question)


def _plot(home: NodeHome, file: Path) -> None:
    # Imported where it is asked for: it brings matplotlib.
    from cloister_client.budget_plot import require_new, write_plot  # noqa: PLC0415

    require_new(file)
    write_plot(_export(home), file)


def _export(home: NodeHome) -> LedgerExport:
    """The whole ledger, verified."""
    ledger = home.ledger()
    try:
        return ledger.export()
    finally:
        ledger.close()
