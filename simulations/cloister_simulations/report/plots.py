"""The plots, in placeholder colours that :mod:`svg` turns into the page's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cloister_simulations.report.comparison import (
    best_baseline,
    contenders,
    main_metric,
    shown_institutions,
)
from cloister_simulations.report.svg import INK, PLOT_STYLE, QUIET, SERIES
from cloister_simulations.report.tables import curve
from cloister_simulations.report.wording import label, metric_title
from cloister_simulations.result import Arm, SimulationResult

MARKERS = "oD^sPvX*"
LONGEST_NAME = 22


def plot_rounds(result: SimulationResult, kind: str) -> Figure:
    """The main metric of each arm by round.

    Dashed where an arm has only a final figure; dotted for the best baseline. Marks with a bar of
    one deviation are what nodes released.
    """
    metric = main_metric(result, kind)
    colours = _colours(result, kind)
    arms = {arm.name: arm for arm in result.arms}
    curves = {name: curve(arm, kind, metric) for name, arm in arms.items()}
    best = best_baseline(result, kind)
    with _figure(height=3.6) as (figure, axes):
        for one in contenders(result, kind):
            final, colour = one.figures.all.get(metric), colours[one.name]
            if curves.get(one.name):
                rounds, figures = zip(*curves[one.name], strict=True)
                axes.plot(rounds, figures, color=colour, label=one.label)
                _plot_released(axes, arms[one.name], kind, metric, colour)
            elif final is not None and not one.is_baseline:
                axes.axhline(final, color=colour, linestyle="--", label=one.label)
            elif final is not None and one == best:
                axes.axhline(final, color=colour, linestyle=":", label=one.label)
        axes.set_xlabel("round")
        axes.set_ylabel(metric_title(metric))
        _legend(figure, axes)
    return figure


def _plot_released(axes: Axes, arm: Arm, kind: str, metric: str, colour: str) -> None:
    """What an arm's nodes released, where the noise left something."""
    released = [
        (one.round, figure.value, figure.noise_deviation)
        for one in arm.rounds
        if (figure := one.private_metrics.get(kind, {}).get(metric)) is not None
    ]
    if released:
        rounds, figures, deviations = zip(*released, strict=True)
        name = f"{label(arm.name)}, released"
        axes.errorbar(rounds, figures, deviations, color=colour, fmt="o", capsize=3, label=name)


def plot_institutions(result: SimulationResult, kind: str) -> Figure:
    """The main metric by institution: one line each, one mark for each arm and baseline.

    Marks, not bars: neither an AUC nor the axis begins at 0, so that lengths would mislead.
    """
    metric = main_metric(result, kind)
    names = shown_institutions(result)
    rivals = [one for one in contenders(result, kind) if one.figures.by_institution]
    colours = _colours(result, kind)
    with _figure(height=1.2 + 0.5 * len(names)) as (figure, axes):
        for place, (rival, marker) in enumerate(zip(rivals, cycle(MARKERS), strict=False)):
            figures = [rival.figures.by_institution.get(name, {}).get(metric) for name in names]
            axes.plot(
                [float("nan") if value is None else value for value in figures],
                [row + 0.6 * (place / max(len(rivals) - 1, 1) - 0.5) for row in range(len(names))],
                linestyle="",
                marker=marker,
                color=colours[rival.name],
                fillstyle="none" if rival.is_baseline else "full",
                label=rival.label,
            )
        _rows(axes, names)
        axes.set_xlabel(metric_title(metric))
        _legend(figure, axes)
    return figure


def plot_spend(result: SimulationResult) -> Figure:
    """The largest ε that a learner of each node has spent, and the limit."""
    names = shown_institutions(result)
    nodes = [node for node in result.nodes if node.name in names]
    rdp = [max((spend.epsilon_rdp or 0 for spend in node.spend), default=0) for node in nodes]
    pld = [max((spend.epsilon_pld or 0 for spend in node.spend), default=0) for node in nodes]
    with _figure(height=1.2 + 0.5 * len(nodes)) as (figure, axes):
        for offset, colour, widths, name in (
            (-0.18, SERIES[0], rdp, "RDP: the guarantee"),
            (0.18, SERIES[1], pld, "PLD: for plans fixed in advance"),
        ):
            rows = [row + offset for row in range(len(nodes))]
            axes.barh(rows, widths, height=0.32, color=colour, label=name)
        if result.guarantee.epsilon_limit is not None:
            axes.axvline(result.guarantee.epsilon_limit, color=INK, linestyle="--", label="limit")
        _rows(axes, names)
        axes.set_xlabel("ε of one learner")
        axes.set_xlim(left=0)
        _legend(figure, axes)
    return figure


def has_finite_spend(result: SimulationResult) -> bool:
    """Whether there is an ε to draw."""
    spends = [spend for node in result.nodes for spend in node.spend]
    return bool(spends) and all(
        None not in (spend.epsilon_rdp, spend.epsilon_pld) for spend in spends
    )


def _colours(result: SimulationResult, kind: str) -> dict[str, str]:
    """A colour for each arm and baseline, the same in all plots."""
    names = [arm.name for arm in result.arms] + list(result.baselines.get(kind, {}))
    return dict(zip(names, cycle(SERIES), strict=False))


@contextmanager
def _figure(height: float) -> Iterator[tuple[Figure, Axes]]:
    """An empty figure of our style; no global state of matplotlib is touched."""
    with rc_context(PLOT_STYLE):
        figure = Figure(figsize=(6.6, height), layout="constrained")
        yield figure, figure.add_subplot()


def _legend(figure: Figure, axes: Axes) -> None:
    """One above the axes, wide rather than high."""
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside upper left", ncols=3, frameon=False)


def _rows(axes: Axes, names: list[str]) -> None:
    """Named rows, the first on top, with quiet lines in between."""
    axes.set_yticks(range(len(names)), [_shortened(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    for between in range(1, len(names)):
        axes.axhline(between - 0.5, color=QUIET, linewidth=0.7, alpha=0.3)


def _shortened(name: str) -> str:
    """A long name without its middle: beginnings are often alike, as are ends."""
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"
