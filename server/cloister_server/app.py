"""The ServerApp of a run; the bundle names ``cloister_server.app:app``.

A run begins as its checkpoint at round 0, which holds the plan and the initial weights, and goes on
from whatever checkpoint is there: starting and resuming are the same.
"""

from pathlib import Path

from flwr.app import Context

from cloister_server.checkpoint import read_checkpoint
from cloister_server.exchange import Exchange
from cloister_server.flower import make_server_app
from cloister_server.rounds import Coordinator
from cloister_shared.errors import ConfigError

RUN_KEY = "cloister-run"
"""The key of Flower's run config that names the run's checkpoint file."""

AUDIT = "audit.json"
"""Beside the checkpoint: the signed report that a private run needs to release its models."""


def run_from_context(exchange: Exchange, context: Context) -> None:
    """Do what is left of the run whose checkpoint the run config names."""
    value = context.run_config.get(RUN_KEY)
    if not isinstance(value, str):
        raise ConfigError(f"start the run with --run-config '{RUN_KEY}=\"FILE\"'")
    path = Path(value)
    state = read_checkpoint(path)
    if path.name != f"{state.plan.run}.checkpoint":
        raise ConfigError(f"the checkpoint of run {state.plan.run} must be called after it")
    audit = path.parent / AUDIT
    Coordinator(state.plan, state.weights, path.parent, audit=audit).run(exchange)


app = make_server_app(run_from_context)
