"""Flower's Ray simulation, for machines with many cores; needs the extra ``cloister[ray]``."""

import importlib.util
import os

from flwr.clientapp import ClientApp
from flwr.server.superlink.fleet.vce.backend.backend import BackendConfig
from flwr.serverapp import ServerApp

from cloister_shared.errors import ConfigError


def run_on_ray(server_app: ServerApp, client_app: ClientApp, nodes: int) -> None:
    """Run ``server_app`` over ``nodes`` virtual nodes, one core each.

    Flower numbers the nodes by ``partition-id``. Raises ``ConfigError`` without Ray.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("the ray backend is not installed; run: pip install 'cloister[ray]'")
    # Imported late: Flower's simulation module imports Ray.
    from flwr.simulation import run_simulation  # noqa: PLC0415

    # Without the explicit share, two cores give Flower a single actor.
    config: BackendConfig = {
        "client_resources": {"num_cpus": 1, "num_gpus": 0},
        "init_args": {"num_cpus": os.cpu_count() or 1, "include_dashboard": False},
    }
    run_simulation(server_app, client_app, nodes, backend_config=config)
