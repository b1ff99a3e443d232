"""``cloister audit ledger``: check a node's exported ledger, with nothing else at hand."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from cloister_shared.errors import DataError, LedgerError
from cloister_shared.frozen import describe
from cloister_shared.printing import AsJson, print_budget, print_json, show
from cloister_shared.privacy.budget_report import report_budget
from cloister_shared.privacy.ledger_chain import verified_totals
from cloister_shared.privacy.ledger_format import LedgerExport, Lift


def audit_ledger(
    file: Annotated[Path, typer.Argument(help="What `cloister node export-ledger` wrote.")],
    key: Annotated[
        str | None,
        typer.Option(help="The node's public key, had from elsewhere: by it the ledger is theirs."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute hashes, prices, totals and signature of an exported ledger; show what was spent.

    A node that was restored from a backup counts as spent, unless a witness (its coordinator) knows
    of nothing that the backup did not have: then the witness's public key is shown, to be compared.

    Ends with 4 if the file cannot be read as a ledger, with 7 if it does not hold together or is
    not signed with the given key.
    """
    export = _read(file)
    header = export.header
    report = report_budget(header, verified_totals(export))
    if key is not None and key.lower() != header.key:
        raise LedgerError(f"{file} is signed with the key {header.key}, not with {key}")
    about = {
        "ledger": header.ledger,
        "key": header.key,
        "entries": len(export.entries),
        "restores_lifted_by": _witnesses(export),
    }
    if as_json:
        print_json({**about, **report.model_dump(mode="json")})
    else:
        show("The ledger holds together", about, as_json)
        print_budget(report)


def _witnesses(export: LedgerExport) -> list[str]:
    return sorted({one.receipt.witness for one in export.entries if isinstance(one, Lift)})


def _read(file: Path) -> LedgerExport:
    try:
        return LedgerExport.model_validate_json(file.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    except ValidationError as error:
        mistakes = describe(error)[:300]
        raise DataError(f"{file} is not an exported ledger of this version: {mistakes}") from error
