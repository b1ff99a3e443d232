"""Engines that run the coordinator's and the nodes' apps on one machine."""

from typing import Literal

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from cloister_simulations.backend.in_process import run_in_process
from cloister_simulations.backend.ray import run_on_ray
from cloister_simulations.nodes import SimulatedNodes, node_configs


def run_apps(
    backend: Literal["in_process", "ray"],
    server_app: ServerApp,
    client_app: ClientApp,
    nodes: SimulatedNodes,
) -> None:
    """Run the apps to the end of the run; errors of the coordinator are raised here."""
    if backend == "ray":
        run_on_ray(server_app, client_app, len(nodes.names))
    else:
        run_in_process(server_app, client_app, node_configs(nodes))
