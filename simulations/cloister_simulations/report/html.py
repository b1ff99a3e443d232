"""The page: one file, no scripts, nothing fetched from anywhere."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from pydantic import ValidationError

from cloister_shared.errors import DataError
from cloister_shared.frozen import describe
from cloister_simulations.report import plots, tables, wording
from cloister_simulations.report.comparison import contenders, main_metric
from cloister_simulations.report.promise import promise
from cloister_simulations.report.svg import inline_svg
from cloister_simulations.report.tables import Table
from cloister_simulations.result import SimulationResult

PRIVATE_NOTE = (
    "What the nodes released: noisy histograms of evaluation learners' predictions, added up. "
    "Every learner weighs about alike in them, every prediction in the exact figure, which is "
    "simulation only. A dash stands where the noise dominates."
)
GROUPS_NOTE = (
    "The last release, by the learners' group. A group's difference to all learners has the noise "
    "of both. Which groups are told of follows from the noisy numbers alone."
)
CALIBRATION_NOTE = (
    "Of the last release: how many of the answers that were given so high a probability were right."
)


@dataclass(frozen=True)
class Panel:
    """A plot and the table that says the same."""

    heading: str
    note: str
    plot: Markup | None
    table: Table

    @property
    def is_wide(self) -> bool:
        """Whether the table needs the page's whole width, below the plot."""
        return self.plot is None or len(self.table.head) > 4


def write_report(result: SimulationResult | Mapping[str, Any], path: Path) -> None:
    """Write the page; ``result`` may be the parsed JSON, a broken one is a ``DataError``."""
    path.write_text(render_report(_validated(result)), encoding="utf-8")


def render_report(result: SimulationResult) -> str:
    """The page as HTML text; the same result always gives the same text."""
    environment = Environment(
        loader=PackageLoader("cloister_simulations.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(
        result=result,
        promise=promise(result),
        highlights=_highlights(result),
        models=[
            (wording.title_of(kind), tables.summary_table(result, kind), _panels(result, kind))
            for kind in result.model_kinds
        ],
        spend=_spend_panel(result),
        audit=tables.audit_table(result),
        cost=tables.cost_table(result),
        rejections=tables.rejections_table(result),
        config=json.dumps(result.config, indent=2, ensure_ascii=False),
    )


def _validated(result: SimulationResult | Mapping[str, Any]) -> SimulationResult:
    if isinstance(result, SimulationResult):
        return result
    try:
        return SimulationResult.model_validate(result)
    except ValidationError as error:
        raise DataError(f"this is not the result of a simulation: {describe(error)}") from error


def _highlights(result: SimulationResult) -> list[tuple[str, str]]:
    """The few numbers at the top, as (what, how much)."""
    rounds = max((len(arm.rounds) for arm in result.arms), default=0)
    return [
        ("institutions", f"{len(result.nodes):,}"),
        ("train learners", f"{sum(node.learners_train for node in result.nodes):,}"),
        ("evaluation learners", f"{sum(node.learners_evaluation for node in result.nodes):,}"),
        ("rounds", f"{rounds:,}"),
        ("wall clock", wording.seconds(result.wall_clock_s)),
    ]


def _panels(result: SimulationResult, kind: str) -> list[Panel]:
    """Rounds and institutions of one model kind, as far as there is anything to show."""
    metric = wording.metric_title(main_metric(result, kind))
    panels = []
    rounds = tables.rounds_table(result, kind)
    if rounds.rows:
        figure = plots.plot_rounds(result, kind)
        panels.append(_panel(f"{kind}-rounds", f"{metric} by round", "", figure, rounds))
    private = tables.private_metrics_table(result, kind)
    if private.rows:
        panels.append(Panel("Private metrics", PRIVATE_NOTE, None, private))
    groups = tables.private_groups_table(result, kind)
    if groups.rows:
        panels.append(Panel("Private metrics by group", GROUPS_NOTE, None, groups))
    calibration = tables.calibration_table(result, kind)
    if calibration.rows:
        panels.append(Panel("Private calibration", CALIBRATION_NOTE, None, calibration))
    institutions = tables.institutions_table(result, kind)
    if any(one.figures.by_institution for one in contenders(result, kind)):
        note = "Filled marks are arms, hollow ones baselines."
        figure = plots.plot_institutions(result, kind)
        heading = f"{metric} by institution"
        panels.append(_panel(f"{kind}-institutions", heading, note, figure, institutions))
    return panels


def _spend_panel(result: SimulationResult) -> Panel:
    table = tables.spend_table(result)
    if not plots.has_finite_spend(result):
        return Panel("ε by node", "No finite ε was spent: there is nothing to draw.", None, table)
    note = "The largest over a node's roles and cohorts; a learner belongs to one of them."
    return _panel("spend", "ε by node", note, plots.plot_spend(result), table)


def _panel(name: str, heading: str, note: str, figure: Figure, table: Table) -> Panel:
    """A panel whose plot points to its table for those who cannot see it."""
    description = f"The table next to it, “{table.caption}”, holds its figures."
    safe_name = "".join(one if one.isalnum() else "-" for one in name)
    return Panel(heading, note, inline_svg(figure, safe_name, heading, description), table)
