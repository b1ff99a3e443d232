"""A simulation's result for people: a self-contained HTML page and a terminal summary."""

from cloister_simulations.report.html import render_report, write_report
from cloister_simulations.report.terminal import print_summary, print_sweep

__all__ = ["print_summary", "print_sweep", "render_report", "write_report"]
