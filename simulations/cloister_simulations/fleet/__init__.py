"""Many clients in one process: a round's clients are trained together, and never held together."""

from cloister_simulations.fleet.clients import Client, Clients, FileClients, MemoryClients
from cloister_simulations.fleet.fleet import NAME, Fleet, FleetNodes, run_fleet
from cloister_simulations.fleet.trainers import Trainer, client_trainer

__all__ = [
    "NAME",
    "Client",
    "Clients",
    "FileClients",
    "Fleet",
    "FleetNodes",
    "MemoryClients",
    "Trainer",
    "client_trainer",
    "run_fleet",
]
