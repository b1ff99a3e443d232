"""``cloister node opt-out``, ``opt-in`` and ``erase``: what a learner wishes."""

from pathlib import Path
from typing import Annotated

import typer

from cloister_client.arguments import Folder
from cloister_client.home import NodeHome
from cloister_client.store.consent import CONSENT_PURPOSES
from cloister_shared.printing import AsJson, show

Learner = Annotated[str, typer.Argument(help="The learner's id in the LMS.")]
_NOBODY = "No learner of this id is held here"


def opt_out(folder: Folder, learner: Learner, as_json: AsJson = False) -> None:
    """Train and evaluate on a learner no more; they are still served."""
    _record_consent(folder, learner, False, as_json)


def opt_in(folder: Folder, learner: Learner, as_json: AsJson = False) -> None:
    """Let a learner take part (again) in training and evaluation."""
    _record_consent(folder, learner, True, as_json)


def erase(folder: Folder, learner: Learner, as_json: AsJson = False) -> None:
    """Delete a learner's records for good, and take none of this id ever again.

    This cannot be undone: later imports and live answers of the same id are left out. What was
    spent on the learner stays spent.
    """
    with NodeHome.open(folder).store() as store:
        held = store.erase(learner)
    title = "Erased" if held else f"{_NOBODY}; answers of this id that come later are left out"
    show(title, {"records_were_held": held}, as_json)


def _record_consent(folder: Path, learner: str, granted: bool, as_json: bool) -> None:
    with NodeHome.open(folder).store() as store:
        known = [store.set_consent(learner, purpose, granted) for purpose in CONSENT_PURPOSES]
    document = {
        "purposes": list(CONSENT_PURPOSES),
        "granted": granted,
        "learner_is_known": any(known),
    }
    title = "Recorded" if any(known) else f"{_NOBODY}; recorded for answers that come later"
    show(title, document, as_json)
