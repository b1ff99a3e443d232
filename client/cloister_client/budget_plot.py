"""``cloister node budget --plot``: how each cohort's ε grew, charge by charge, up to the limit."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cloister_shared.errors import ConfigError
from cloister_shared.privacy.accounting import MICRO
from cloister_shared.privacy.ledger_format import (
    ROLES,
    Entry,
    Group,
    LedgerExport,
    LedgerHeader,
    Reserve,
)
from cloister_shared.privacy.renyi import conversion

FORMATS = (".png", ".svg")
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
"""Okabe and Ito's, which the colour-blind can tell apart; one for each of the dearest runs."""
_OTHERS, _LIMIT = "#9a9a9a", "#b00020"
_COLUMNS = 3
_MOST_PANELS = 12


@dataclass(frozen=True)
class Curve:
    """The charges of one role and cohort, in order: their runs, and micro-units spent after each.

    ``unbounded`` where a charge without a guarantee followed: from there on nothing is bounded.
    """

    runs: Sequence[str]
    micro: Sequence[int]
    unbounded: bool


def require_new(file: Path) -> None:
    """Raise ``ConfigError`` unless ``file`` is a PNG or SVG that does not exist yet."""
    if file.suffix.lower() not in FORMATS:
        raise ConfigError(f"--plot writes {' or '.join(FORMATS)} files, found {file.name!r}")
    if file.exists():
        raise ConfigError(f"{file} exists and is not overwritten; give --plot another name")


def write_plot(export: LedgerExport, file: Path) -> None:
    """Draw a verified ledger's spend into the new ``file``; ``ConfigError`` if it cannot be."""
    figure = plot_spend(export.header, curves(export.entries))
    try:
        with file.open("xb") as opened:
            figure.savefig(opened, format=file.suffix[1:].lower(), dpi=150)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error


def curves(entries: Iterable[Entry]) -> dict[Group, Curve]:
    """What each role and cohort was charged, in the ledger's order."""
    runs: dict[Group, list[str]] = {}
    micro: dict[Group, list[int]] = {}
    unbounded: set[Group] = set()
    for entry in entries:
        if not isinstance(entry, Reserve):
            continue
        for cohort in entry.charge.cohorts:
            group = entry.charge.role, cohort
            names, spent = runs.setdefault(group, []), micro.setdefault(group, [])
            if entry.cost is None:
                unbounded.add(group)
            if group not in unbounded:
                names.append(entry.charge.run)
                spent.append((spent[-1] if spent else 0) + (entry.cost or 0))
    return {group: Curve(runs[group], micro[group], group in unbounded) for group in sorted(runs)}


def plot_spend(header: LedgerHeader, spent: Mapping[Group, Curve]) -> Figure:
    """One panel for each role and cohort that was charged, up to a dozen; the runs by colour."""
    shown = dict(sorted(spent.items(), key=lambda one: ROLES.index(one[0][0]))[:_MOST_PANELS])
    columns = min(_COLUMNS, max(1, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    colours = _colours(shown.values())
    with rc_context({"font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(2.0 + 3.4 * columns, 1.6 + 2.3 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
        for axes, (group, curve) in zip(panels, shown.items(), strict=False):
            _draw(axes, header, group, curve, colours)
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        _scale(panels[0], header, shown.values())
        hidden = len(spent) - len(shown)
        more = f"; {hidden} more cohorts are not shown" if hidden else ""
        what = "what is spent" if shown else "nothing is spent"
        figure.suptitle(f"Privacy budget: {what}{more}", x=0.01, ha="left", fontweight="bold")
        _legend(figure, header, colours, shown.values(), columns)
    return figure


def _draw(
    axes: Axes, header: LedgerHeader, group: Group, curve: Curve, colours: Mapping[str, str]
) -> None:
    """The steps of one group; each run's stretch in its colour, down to where nothing is spent."""
    heights = _epsilons(header, curve.micro)
    ground = float(_epsilons(header, [0])[0])
    for first, last in _stretches(curve.runs):
        edges = np.arange(first, last + 1) + 0.5
        colour = colours.get(curve.runs[first], _OTHERS)
        axes.stairs(heights[first:last], edges, baseline=ground, color=colour, fill=True, alpha=0.5)
        axes.stairs(heights[first:last], edges, baseline=None, color=colour, linewidth=1.6)
    axes.axhline(header.budget.epsilon, color=_LIMIT, linestyle="--", linewidth=1.2)
    axes.set_xlim(0.5, max(len(heights), 1) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_title(_title(header, group, curve), fontsize="medium", loc="left", parse_math=False)
    axes.set_xlabel("charge")


def _title(header: LedgerHeader, group: Group, curve: Curve) -> str:
    role, cohort = group
    if curve.unbounded:
        return f"{role}, {cohort}: without bound in the end"
    return f"{role}, {cohort}: {curve.micro[-1] / max(header.limit, 1):.1%} of the budget"


def _scale(axes: Axes, header: LedgerHeader, shown: Iterable[Curve]) -> None:
    """The height, which all panels share: from the ε of no charge at all to above the limit."""
    ground = float(_epsilons(header, [0])[0])
    most = max((curve.micro[-1] for curve in shown if curve.micro), default=0)
    axes.set_ylim(ground, ground + 1.08 * max(header.limit, most, 1) / MICRO)
    axes.set_ylabel(f"ε by RDP at order {header.order:g}")


def _legend(
    figure: Figure,
    header: LedgerHeader,
    colours: Mapping[str, str],
    shown: Iterable[Curve],
    columns: int,
) -> None:
    others = len({run for curve in shown for run in curve.runs} - colours.keys())
    further = {f"{others} further runs": _OTHERS} if others else {}
    state = "limit" if header.enforced else "limit, NOT ENFORCED (simulation)"
    limit = f"{state}: ε = {header.budget.epsilon:g} at δ = {header.budget.delta:g}"
    handles = [Line2D([], [], color=_LIMIT, linestyle="--", label=limit)]
    for name, colour in {**colours, **further}.items():
        text = name.replace("$", r"\$")
        handles.append(Line2D([], [], color=colour, linewidth=5, alpha=0.6, label=text))
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, frameon=False)


def _colours(shown: Iterable[Curve]) -> dict[str, str]:
    """A colour for each of the runs that cost most, in the order in which they began."""
    spent: Counter[str] = Counter()
    for curve in shown:
        prices = np.diff(curve.micro, prepend=0)
        for run, price in zip(curve.runs, prices.tolist(), strict=True):
            spent[run] += price
    dearest = {run for run, _ in spent.most_common(len(COLOURS))}
    return dict(zip((run for run in spent if run in dearest), COLOURS, strict=False))


def _stretches(runs: Sequence[str]) -> list[tuple[int, int]]:
    """(first, last + 1) of each longest row of charges of one run."""
    starts = [place for place, run in enumerate(runs) if place == 0 or runs[place - 1] != run]
    return list(zip(starts, [*starts[1:], len(runs)], strict=True))


def _epsilons(header: LedgerHeader, micro: Sequence[int]) -> NDArray[np.float64]:
    """(charges,) ε at the ledger's δ and order after each charge."""
    added = float(conversion(np.array(header.order), header.budget.delta))
    return np.maximum(0.0, np.array(micro, np.float64) / MICRO + added)
