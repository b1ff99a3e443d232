"""Flower's Ray simulation, for machines with many cores; needs the extra ``cloister[ray]``."""

import importlib.util
import logging
import os
from collections.abc import Iterable
from threading import Event

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.server.superlink.fleet.vce.backend.backend import BackendConfig
from flwr.serverapp import Grid, ServerApp

from cloister_shared.errors import ConfigError, RunError


def run_on_ray(server_app: ServerApp, client_app: ClientApp, nodes: int) -> None:
    """Run ``server_app`` over ``nodes`` virtual nodes, one core each.

    Flower numbers the nodes by ``partition-id``. Raises ``ConfigError`` without Ray.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("the ray backend is not installed; run: pip install '.[ray]'")
    # Imported late: Flower's simulation module imports Ray.
    from flwr.simulation import run_simulation  # noqa: PLC0415

    # Every start would be announced, and that Flower would rather be started by its own command.
    logging.getLogger("flwr").setLevel(logging.ERROR)
    # What Ray is about to do with accelerators that nobody here uses.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Without the explicit share, two cores give Flower a single actor.
    config: BackendConfig = {
        "client_resources": {"num_cpus": 1, "num_gpus": 0},
        "init_args": {"num_cpus": os.cpu_count() or 1, "include_dashboard": False},
    }
    stop = Event()
    try:
        run_simulation(_stoppable(server_app, stop), client_app, nodes, backend_config=config)
    finally:
        stop.set()


def _stoppable(server_app: ServerApp, stop: Event) -> ServerApp:
    """The app, which ends at its next look for replies once ``stop`` is set.

    Flower runs it in a thread that Ctrl-C does not reach: it would wait for replies of nodes that
    are gone until the round's deadline.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        pull = grid.pull_messages

        def pull_unless_stopped(message_ids: Iterable[str]) -> Iterable[Message]:
            if stop.is_set():
                raise RunError("the simulation was interrupted")
            return pull(message_ids)

        grid.pull_messages = pull_unless_stopped  # type: ignore[method-assign]
        server_app(grid, context)

    return app
