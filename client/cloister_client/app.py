"""The ClientApp that an institution's node runs; the bundle names ``cloister_client.app:app``."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import Context

from cloister_client.activation import Activation
from cloister_client.flower import make_client_app
from cloister_client.home import NodeHome
from cloister_client.node import Node
from cloister_client.residuals import FOLDER, FileResiduals
from cloister_client.swapping import Steps, at_once
from cloister_client.training.process import tune_process
from cloister_shared.errors import ConfigError

HOME_KEY = "cloister-home"
"""The key of Flower's node config that says where the node's home is."""


def node_from_context(context: Context) -> Node:
    """The node whose home the SuperNode was started with."""
    home = context.node_config.get(HOME_KEY)
    if not isinstance(home, str):
        raise ConfigError(f"start the node with --node-config '{HOME_KEY}=\"DIRECTORY\"'")
    return _opened(Path(home))


def node_from_home(home: NodeHome, do: Callable[[Steps], None] = at_once) -> Node:
    """An institution's node over its store and ledger.

    ``do`` does what has to be done before a released model is served, at once or when there is
    time. First of all about models about which an earlier process did not get to decide.
    """
    store = home.store()
    activation = Activation(store, home.curriculum, home.config.policy)
    do(activation.steps)
    return Node(
        name=home.config.name,
        key=home.signing_key(),
        declared_size=home.config.declared_size,
        curriculum=home.curriculum,
        policy=home.config.policy,
        source=store,
        ledger=home.ledger(),
        install=activation.keep,
        activate=lambda: do(activation.steps),
        cohorts=home.config.cohorts,
        witness=home.witness(),
        residuals=FileResiduals(home.path / FOLDER),
    )


@lru_cache(maxsize=8)
def _opened(path: Path) -> Node:
    tune_process()
    return node_from_home(NodeHome.open(path))


app = make_client_app(node_from_context)
