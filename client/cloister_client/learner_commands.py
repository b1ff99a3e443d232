"""``cloister node opt-out``, ``opt-in``, ``erase`` and ``readmit``: what a learner wishes."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cloister_client import wishes
from cloister_client.arguments import Folder
from cloister_client.home import NodeHome
from cloister_client.ledger import PersonalChain
from cloister_client.store import Store
from cloister_client.store.consent import CONSENT_PURPOSES
from cloister_shared.printing import AsJson, show

Learner = Annotated[str, typer.Argument(help="The learner's id in the LMS.")]
_NOBODY = "No learner of this id is held here"


def opt_out(folder: Folder, learner: Learner, as_json: AsJson = False) -> None:
    """Train and evaluate on a learner no more; they are still served."""
    _show_consent(_recorded(folder, learner, wishes.opt_out), False, as_json)


def opt_in(folder: Folder, learner: Learner, as_json: AsJson = False) -> None:
    """Let a learner take part (again) in training and evaluation."""
    _show_consent(_recorded(folder, learner, wishes.opt_in), True, as_json)


def erase(folder: Folder, learner: Learner, as_json: AsJson = False) -> None:
    """Delete a learner's records for good, and take none of this id again.

    What was deleted cannot be brought back: later imports and live answers of the same id are left
    out. What was spent on the learner stays spent. A keyed hash is all that is kept.
    """
    held = _recorded(folder, learner, wishes.erase)
    title = "Erased" if held else f"{_NOBODY}; answers of this id that come later are left out"
    show(title, {"records_were_held": held}, as_json)


def readmit(folder: Folder, learner: Learner, as_json: AsJson = False) -> None:
    """Take answers of an erased learner again, those that come from now on.

    They have what is left of the budget that they had: role and cohort are those of before.
    """
    held = _recorded(folder, learner, wishes.readmit)
    title = "Nothing to undo: records of this id are held" if held else "Readmitted"
    show(title, {"records_are_held": held}, as_json)


def _recorded(
    folder: Path, learner: str, wish: Callable[[PersonalChain, Store, str], bool]
) -> bool:
    home = NodeHome.open(folder)
    with home.personal_chain() as chain, home.store() as store:
        return wish(chain, store, learner)


def _show_consent(known: bool, granted: bool, as_json: bool) -> None:
    document = {
        "purposes": list(CONSENT_PURPOSES),
        "granted": granted,
        "learner_is_known": known,
    }
    title = "Recorded" if known else f"{_NOBODY}; recorded for answers that come later"
    show(title, document, as_json)
