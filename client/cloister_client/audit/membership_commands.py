"""``cloister audit membership``: whether a model tells this node's own learners who trained it."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cloister_client.arguments import Folder
from cloister_client.home import NodeHome
from cloister_client.store import ModelVersion, Store
from cloister_shared.errors import DataError, PolicyError
from cloister_shared.model_specs import SPECS
from cloister_shared.printing import AsJson, print_json

if TYPE_CHECKING:
    from cloister_client.audit.membership import MembershipReport

NOTE = (
    "These figures are made of learners' records without noise: they are for this institution "
    "alone. A figure that leaves it is itself a release, for which nobody was charged."
)


def audit_membership(
    folder: Folder,
    version: Annotated[
        str | None, typer.Option(help="A kept model version; default: all that are served.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Attack models with this node's own learners: can those who trained them be told?

    Shows how much better than chance an attacker is, and surely is (95 %), beside what the node's
    ε and δ allow. Reads who may be trained and evaluated on. Ends with 8 if a model surely exceeds
    the policy's max_membership_advantage, or what ε and δ allow.
    """
    # Imported where it is asked for: it brings torch, and every other command starts without.
    from cloister_client.activation import Activation  # noqa: PLC0415

    home = NodeHome.open(folder)
    policy = home.config.policy
    with home.store() as store:
        activation = Activation(store, home.curriculum, policy)
        reports = [activation.examine(one) for one in _versions(store, version)]
    _show(reports, policy.max_membership_advantage, as_json)
    _require(reports, policy.max_membership_advantage)


def _versions(store: Store, version: str | None) -> list[ModelVersion]:
    if version is not None:
        return [store.model_version(version)]
    active = [model for kind in SPECS if (model := store.active_model(kind)) is not None]
    if not active:
        raise DataError(
            "no model is served yet, so there is none to attack; name a kept one with --version"
        )
    return active


def _show(reports: list["MembershipReport"], limit: float | None, as_json: bool) -> None:
    if as_json:
        found = [{**one.model_dump(mode="json"), "lower_bound": one.lower_bound} for one in reports]
        print_json({"reports": found, "max_membership_advantage": limit, "note": NOTE})
        return
    table = Table("model", "attack", "advantage", "surely at least", "recognized at 1 % false")
    for report in reports:
        for attack in report.attacks:
            table.add_row(
                report.kind,
                attack.name,
                f"{attack.advantage:.3f}",
                f"{attack.lower_bound:.3f}",
                f"{attack.recognized:.1%}",
            )
    console = Console()
    for report in reports:
        console.print(
            f"{report.kind} {report.version[:12]}: {report.trained} learners of the train role, "
            f"{report.others} others; reference {report.reference[:12]}; ε and δ allow an "
            f"advantage of {report.ceiling:.3f}"
        )
        if not report.attacks:
            console.print(f"{report.kind}: there is nobody to compare with, so nothing is known")
    console.print(table, NOTE, sep="\n")


def _require(reports: list["MembershipReport"], limit: float | None) -> None:
    for report in reports:
        allowed = min(report.ceiling, 1.0 if limit is None else limit)
        if report.lower_bound > allowed:
            raise PolicyError(
                f"who was trained on can be told from the {report.kind} model with an advantage of "
                f"at least {report.lower_bound:.2f}; {allowed:.2f} is allowed",
                "membership",
            )
