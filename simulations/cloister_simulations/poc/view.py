"""What is up of a consortium on this machine, and how its runs stand."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from cloister_client.home import NodeHome
from cloister_client.up_commands import SERVE
from cloister_client.up_commands import what_is_up as node_up
from cloister_server.home import CoordinatorHome
from cloister_server.overview import RunView, runs_of
from cloister_server.up_commands import what_is_up as coordinator_up
from cloister_shared.model_specs import SPECS
from cloister_shared.privacy.budget_report import report_budget
from cloister_simulations.poc.processes import COORDINATOR, require_consortium, schools

LOOPBACK = "127.0.0.1"
Document = dict[str, Any]


def view(folder: Path) -> Document:
    """Coordinator, runs and nodes as one document; ``up`` says whether all of them are.

    Raises ``ConfigError`` if the folder holds no consortium, or a broken one.
    """
    require_consortium(folder)
    home = CoordinatorHome.open(folder / COORDINATOR)
    coordinator = _coordinator(home)
    nodes = {name: _node(path) for name, path in schools(folder).items()}
    return {
        "folder": str(folder),
        "up": coordinator["up"] and bool(nodes) and all(one["up"] for one in nodes.values()),
        "coordinator": coordinator,
        "runs": [_run(one) for one in runs_of(home)],
        "nodes": nodes,
    }


def show_view(document: Document, console: Console) -> None:
    """The same for people."""
    coordinator = document["coordinator"]
    table = Table("member", "state", Column("listens on", no_wrap=True), "spent at most", "serves")
    table.add_row("coordinator", _state(coordinator), coordinator["address"])
    for name, node in document["nodes"].items():
        spent = "" if node["epsilon"] is None else f"ε {node['epsilon']:.2f}"
        serves = ", ".join(sorted(node["models"]))
        table.add_row(escape(name), _state(node), node["service"] or "", spent, serves)
    console.print(table)
    for run in document["runs"]:
        said = f"run {run['run']}: {run['state']}, {run['round']} of {run['rounds']} rounds"
        reason = f"; {run['reason']}" if run["reason"] else ""
        console.print(said + reason, markup=False, highlight=False)
    if coordinator["up"]:
        for what, where in (
            ("status page", coordinator["status_page"]),
            ("a node's token", f"{document['folder']}/nodes/NAME/keys/api.token"),
            ("take it down", f"cloister poc down {document['folder']}"),
        ):
            console.print(f"{what}: {where}", markup=False, highlight=False, soft_wrap=True)


def _coordinator(home: CoordinatorHome) -> Document:
    document = coordinator_up(home, as_json=True)
    page = f"http://{LOOPBACK}:{home.config.console_port}"
    shown = ("up", "address", "peers_shut_out", "replies_refused", "processes")
    return {**{name: document[name] for name in shown}, "status_page": page}


def _node(path: Path) -> Document:
    home = NodeHome.open(path)
    document = node_up(home, as_json=True)
    serving = document["processes"].get(SERVE)
    report = report_budget(*home.totals())
    spent = [one.epsilon_rdp for one in report.groups if one.role == "train"]
    with home.store() as store:
        active = {kind: store.active_model(kind) for kind in SPECS}
    return {
        **{name: document[name] for name in ("up", "connected", "refusals", "processes")},
        "folder": str(path),
        "service": None if serving is None else serving["address"],
        "models": {kind: model.version for kind, model in active.items() if model is not None},
        "epsilon": spent[0] if spent else None,
        "delta": report.delta,
    }


def _run(one: RunView) -> Document:
    return {
        "run": one.name,
        "state": one.state,
        "round": one.checkpoint.round,
        "rounds": one.checkpoint.plan.rounds,
        "epsilon": one.spent,
        "reason": one.reason,
    }


def _state(member: Document) -> str:
    if not member["up"]:
        return "down"
    processes = member["processes"].items()
    behind = [name for name, one in processes if one["state"] != "ready"]
    return f"up, but {', '.join(behind)}" if behind else "up"
