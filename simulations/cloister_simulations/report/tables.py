"""The tables that stand beside the plots; every cell is text, the first column names the row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.filesize import decimal

from cloister_shared.privacy.figures import ABOVE_ALL, PrivateFigure
from cloister_simulations.report import wording
from cloister_simulations.report.comparison import (
    REFERENCE_ARM,
    Contender,
    contenders,
    main_metric,
    shown_institutions,
)
from cloister_simulations.result import Arm, RoundResult, SimulationResult

MOST_ROUNDS = 12
Row = TypeVar("Row")


@dataclass(frozen=True)
class Table:
    """A caption, column names, and rows of equal length; ``text_columns`` are not numbers."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: tuple[int, ...] = (0,)


def summary_table(result: SimulationResult, kind: str) -> Table:
    """All arms and baselines with all metrics, and how far the main one is from pooled.

    Calibration stands beside what nodes release of it, in :func:`private_metrics_table`.
    """
    rivals = contenders(result, kind)
    main = main_metric(result, kind)
    known = dict.fromkeys([main, *(m for one in rivals for m in one.figures.all)])
    metrics = [metric for metric in known if not metric.startswith("calibration")]
    rows = tuple(
        (
            one.label,
            one.privacy,
            *(wording.figure(one.figures.all.get(metric)) for metric in metrics),
            wording.difference(_above_reference(one, rivals, main)),
        )
        for one in rivals
    )
    titles = [wording.metric_title(metric) for metric in metrics]
    head = ("arm", "privacy", *titles, f"{titles[0]} − {REFERENCE_ARM}")
    return Table(f"{wording.title_of(kind)}: all evaluation learners", head, rows, (0, 1))


def rounds_table(result: SimulationResult, kind: str) -> Table:
    """The main metric of the arms by round, thinned out to about a dozen rounds."""
    metric = main_metric(result, kind)
    arms = [arm for arm in result.arms if curve(arm, kind, metric)]
    curves = [dict(curve(arm, kind, metric)) for arm in arms]
    numbers = sorted({number for one in curves for number in one})
    shown = thinned(numbers)
    rows = tuple(
        (str(number), *(wording.figure(one.get(number)) for one in curves)) for number in shown
    )
    note = "" if len(shown) == len(numbers) else f" ({len(shown)} of {len(numbers)} rounds)"
    head = ("round", *(wording.label(arm.name) for arm in arms))
    return Table(f"{wording.metric_title(metric)} by round{note}", head, rows)


def private_metrics_table(result: SimulationResult, kind: str, most: int = MOST_ROUNDS) -> Table:
    """What nodes released of evaluation learners, the last ``most`` times, beside the truth."""
    rows = tuple(
        (
            wording.label(arm.name),
            str(one.round),
            wording.metric_title(metric),
            *_with_noise(figure, wording.figure),
            wording.figure(one.metrics.get(kind, {}).get(metric)),
        )
        for arm in result.arms
        for one in [done for done in arm.rounds if kind in done.private_metrics][-most:]
        for metric, figure in one.private_metrics[kind].items()
    )
    head = ("arm", "round", "figure", "private", "± noise", "exact (simulation only)")
    return Table(f"{wording.title_of(kind)}: private metrics", head, rows, (0, 2))


def private_groups_table(result: SimulationResult, kind: str) -> Table:
    """The last figures that nodes released of each group, beside the truth."""
    rows = tuple(
        (
            wording.label(arm.name),
            group,
            wording.metric_title(metric),
            *_with_noise(figure, wording.figure),
            *_with_noise(figures.get(metric + ABOVE_ALL), wording.difference),
            *_exact_of_group(arm, kind, group, metric),
        )
        for arm in result.arms
        for one in [done for done in arm.rounds if kind in done.private_breakdowns][-1:]
        for group, figures in one.private_breakdowns[kind].groups.items()
        for metric, figure in figures.items()
        if not metric.endswith(ABOVE_ALL)
    )
    private = ("private", "± noise", "private − all", "± noise")
    head = ("arm", "group", "figure", *private, "exact (simulation only)", "exact − all")
    return Table(f"{wording.title_of(kind)}: private metrics by group", head, rows, (0, 1, 2))


def calibration_table(result: SimulationResult, kind: str) -> Table:
    """The last released shares of right answers by bin of the prediction."""
    rows = tuple(
        (
            wording.label(arm.name),
            wording.bin_of(number, len(bins)),
            *_with_noise(figure, wording.figure),
        )
        for arm in result.arms
        for one in [done for done in arm.rounds if kind in done.private_breakdowns][-1:]
        for bins in [one.private_breakdowns[kind].bins]
        for number, figure in enumerate(bins)
    )
    head = ("arm", "predicted", "private share of right answers", "± noise")
    return Table(f"{wording.title_of(kind)}: private calibration by bin", head, rows, (0, 1))


def institutions_table(result: SimulationResult, kind: str) -> Table:
    """The main metric of every contender at each institution."""
    metric = main_metric(result, kind)
    rivals = [one for one in contenders(result, kind) if one.figures.by_institution]
    shown = shown_institutions(result)
    rows = tuple(
        (
            name,
            *(
                wording.figure(one.figures.by_institution.get(name, {}).get(metric))
                for one in rivals
            ),
        )
        for name in shown
    )
    head = ("institution", *(one.label for one in rivals))
    title = f"{wording.metric_title(metric)} by institution{_of_all(shown, result)}"
    return Table(title, head, rows)


def spend_table(result: SimulationResult) -> Table:
    """Sizes and ε of the nodes, one row for each role and cohort."""
    shown = shown_institutions(result)
    rows = tuple(
        (
            node.name,
            f"{node.declared_size:,}",
            f"{node.learners_train:,}",
            f"{node.learners_evaluation:,}",
            spend.role if spend.cohort == "all" else f"{spend.role}, {spend.cohort}",
            wording.epsilon(spend.epsilon_rdp),
            wording.epsilon(spend.epsilon_pld),
        )
        for node in result.nodes
        if node.name in shown
        for spend in node.spend
    )
    head = ("node", "declared", "train", "evaluation", "role", "ε (RDP)", "ε (PLD)")
    return Table(f"Learners and ε by node{_of_all(shown, result)}", head, rows, (0, 4))


def audit_table(result: SimulationResult) -> Table:
    """What is claimed of the code that trained arms with noise, and what canaries proved of it."""
    rows = tuple(
        (
            wording.label(arm.name),
            wording.title_of(report.kind),
            f"noise multiplier {report.event.noise_multiplier:g}, {report.canaries:,} canaries",
            wording.epsilon(report.claim),
            f"{report.lower_bound:.2f}",
            f"{report.correct} of {report.guesses}",
        )
        for arm in result.arms
        for report in arm.audit
    )
    head = (
        "arm",
        "model",
        "one step audited",
        "claimed ε",
        "empirical lower bound",
        "right guesses",
    )
    return Table("Audit of the code", head, rows, (0, 1, 2))


def cost_table(result: SimulationResult) -> Table:
    """What each arm cost: rounds, time, bytes, and how many contributions were rejected."""
    rows = tuple(
        (
            wording.label(arm.name),
            str(len(arm.rounds)),
            wording.seconds(arm.seconds),
            decimal(sum(one.bytes_down for one in arm.rounds)),
            decimal(sum(one.bytes_up for one in arm.rounds)),
            str(sum(len(one.participants) for one in arm.rounds)),
            str(sum(len(one.rejected) for one in arm.rounds)),
        )
        for arm in result.arms
    )
    head = ("arm", "rounds", "time", "bytes down", "bytes up", "replies", "rejected")
    return Table("Cost of each arm", head, rows)


def rejections_table(result: SimulationResult) -> Table:
    """Contributions that were not used, and why."""
    rejected = [
        (wording.label(arm.name), str(one.round), node, reason)
        for arm in result.arms
        for one in arm.rounds
        for node, reason in one.rejected.items()
    ]
    shown = rejected[: 2 * MOST_ROUNDS]
    note = "" if len(shown) == len(rejected) else f" (the first {len(shown)} of {len(rejected)})"
    head = ("arm", "round", "node", "reason")
    return Table(f"Rejected contributions{note}", head, tuple(shown), (0, 2, 3))


def curve(arm: Arm, kind: str, metric: str) -> list[tuple[int, float]]:
    """(round, figure) of each round of ``arm`` that measured ``metric``."""

    def value(one: RoundResult) -> float | None:
        return one.metrics.get(kind, {}).get(metric)

    return [(one.round, figure) for one in arm.rounds if (figure := value(one)) is not None]


def thinned(rows: Sequence[Row]) -> list[Row]:
    """At most ``MOST_ROUNDS`` of ``rows``, evenly spaced, the first and the last among them."""
    if len(rows) <= MOST_ROUNDS:
        return list(rows)
    last = len(rows) - 1
    return [rows[round(step * last / (MOST_ROUNDS - 1))] for step in range(MOST_ROUNDS)]


def _with_noise(
    figure: PrivateFigure | None, worded: Callable[[float | None], str]
) -> tuple[str, str]:
    """A released figure and the deviation of its noise; two dashes for a suppressed one."""
    if figure is None:
        return wording.MISSING, wording.MISSING
    return worded(figure.value), wording.figure(figure.noise_deviation)


def _exact_of_group(arm: Arm, kind: str, group: str, metric: str) -> tuple[str, str]:
    """A group's figure, and its difference to all, by the weights that the last release is of."""
    figures = arm.final[kind]
    own, of_all = figures.by_group.get(group, {}).get(metric), figures.all.get(metric)
    above = None if own is None or of_all is None else own - of_all
    return wording.figure(own), wording.difference(above)


def _above_reference(one: Contender, rivals: Sequence[Contender], metric: str) -> float | None:
    """How far ``one`` is above the pooled arm, if it is another and both have a figure."""
    references = [rival.figures.all.get(metric) for rival in rivals if rival.name == REFERENCE_ARM]
    value = one.figures.all.get(metric)
    if one.name == REFERENCE_ARM or value is None or not references or references[0] is None:
        return None
    return value - references[0]


def _of_all(shown: Sequence[str], result: SimulationResult) -> str:
    """A note for a table that leaves institutions out."""
    if len(shown) == len(result.nodes):
        return ""
    return f" (the {len(shown)} largest of {len(result.nodes):,})"
