"""``cloister node budget`` and ``export-ledger``: what is spent, for oneself and for an auditor."""

from pathlib import Path
from typing import Annotated

import typer

from cloister_client.arguments import Folder
from cloister_client.home import NodeHome
from cloister_shared.errors import ConfigError
from cloister_shared.printing import AsJson, print_budget, print_json, show
from cloister_shared.privacy.budget_report import report_budget


def budget(folder: Folder, as_json: AsJson = False) -> None:
    """Show the privacy budget: limit, spent and left by role and cohort, and by run."""
    report = report_budget(*NodeHome.open(folder).totals())
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        print_budget(report)


def export_ledger(
    folder: Folder,
    file: Annotated[Path, typer.Argument(help="Where to write it; must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Write the privacy ledger for an auditor; it names no learner."""
    ledger = NodeHome.open(folder).ledger()
    export = ledger.export()
    ledger.close()
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(export.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
    show("Exported", {"file": str(file), "entries": len(export.entries)}, as_json)
