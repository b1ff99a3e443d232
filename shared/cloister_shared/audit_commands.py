"""``cloister audit ledger``: check a node's exported ledger, with nothing else at hand."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from cloister_shared.errors import DataError
from cloister_shared.frozen import describe
from cloister_shared.printing import AsJson, print_budget, print_json
from cloister_shared.privacy.budget_report import report_budget
from cloister_shared.privacy.ledger_format import LedgerExport


def audit_ledger(
    file: Annotated[Path, typer.Argument(help="What `cloister node export-ledger` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Recompute hashes, prices and totals of an exported ledger, and show what was spent.

    Ends with 4 if the file cannot be read as a ledger, with 7 if it does not hold together.
    """
    report = report_budget(_read(file))
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        print_budget(report)


def _read(file: Path) -> LedgerExport:
    try:
        return LedgerExport.model_validate_json(file.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    except ValidationError as error:
        mistakes = describe(error)[:300]
        raise DataError(f"{file} is not an exported ledger of this version: {mistakes}") from error
