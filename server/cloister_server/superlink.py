"""Flower's SuperLink, hosted: its app for our own listeners, and its control interface.

All use of the SuperLink's unstable internals is here and in :mod:`cloister_server.grid`;
tests/server/test_superlink_contract.py holds the contract.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
from flwr.common.constant import ISOLATION_MODE_PROCESS, TRANSPORT_TYPE_GRPC_RERE
from flwr.common.serde import user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.supercore import sql_mixin
from flwr.supercore.constant import NodeStatus
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.corestate.sql_corestate import SqlCoreState
from flwr.supercore.interceptors.http.utils import add_headers
from flwr.supercore.logger import LOGGER_NAME
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.routers.runtime.tracing import RuntimeTracingMiddleware
from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app
from flwr.superlink.routers.control.middlewares import (
    ControlEventLogMiddleware,
    ControlLicenseMiddleware,
    ControlSensitiveResponseMiddleware,
)
from flwr.superlink.routers.fleet.middlewares import FleetEventLogMiddleware
from starlette.types import ASGIApp

from cloister_server.guard import CONTROL_HEADER
from cloister_server.home import CoordinatorHome
from cloister_shared.bundles import RUN_KEY, build
from cloister_shared.errors import ServiceError

LOOPBACK = "127.0.0.1"
BUNDLE = Path(__file__).parent / "bundle" / "pyproject.toml"
"""The settings that are the whole bundle."""

IDLE: frozenset[object] = frozenset(
    {
        ControlEventLogMiddleware,
        ControlLicenseMiddleware,
        ControlSensitiveResponseMiddleware,
        FleetEventLogMiddleware,
        RuntimeTracingMiddleware,
    }
)
"""Layers around every call that do nothing without plug-ins, but take half of its time."""

_PRAGMAS = {"cache_size": "-8000", "mmap_size": "0"}
"""Every connection keeps a cache of its own: 8 MB in place of 64, and no file mapped beside it."""
EXPIRE_S = 1.0
"""How often tasks without heartbeats are looked for; Flower gives them a minute."""
_EXPIRE = "_cleanup_expired_task_tokens"
_flowers_expire: Callable[[SqlCoreState], None] = vars(SqlCoreState)[_EXPIRE]
_FINISHED = "finished"
_RUNS_LOOKED_AT = 1000

Answer = TypeVar("Answer")


def make_app(home: CoordinatorHome) -> ASGIApp:
    """Flower's three interfaces over the home's SQLite file; guards belong before each of them."""
    # Flower tells of every call; on a busy link that costs more than some calls do.
    logging.getLogger(LOGGER_NAME).setLevel(logging.WARNING)
    pragmas: tuple[tuple[str, str], ...] = vars(sql_mixin)["SQLITE_PRAGMAS"]
    lean = tuple((name, _PRAGMAS.get(name, value)) for name, value in pragmas)
    vars(sql_mixin)["SQLITE_PRAGMAS"] = lean
    setattr(SqlCoreState, _EXPIRE, seldom(_flowers_expire))
    config = SuperLinkLifespanConfig(
        host=LOOPBACK,
        port=home.config.control_port,
        database=str(home.superlink),
        superexec_auth_secret=home.superexec_secret(),
        enable_supernode_auth=True,
        isolation=ISOLATION_MODE_PROCESS,
        runtime_dependency_install=False,
        simulation=False,
        # TLS is that of our listeners, and Flower starts none of its own.
        insecure=False,
        certificates=None,
        ssl_ca_certfile=None,
        ssl_certfile=None,
        ssl_keyfile=None,
        control_address="",
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        health_server_address=None,
        authn_plugin=NoOpControlAuthnPlugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
    )
    app = create_app(config, SuperLinkLifespan)
    app.user_middleware = [one for one in app.user_middleware if one.cls not in IDLE]
    return app


def seldom(
    expire: Callable[[SqlCoreState], None], clock: Callable[[], float] = time.monotonic
) -> Callable[[SqlCoreState], None]:
    """``expire``, every ``EXPIRE_S`` seconds at the most.

    Flower looks at nearly every call, in two statements that write: a fifth of what a call costs.
    """
    due = -math.inf

    def expired(state: SqlCoreState) -> None:
        nonlocal due
        if clock() >= due:
            due = clock() + EXPIRE_S
            expire(state)

    return expired


class Control:
    """Flower's control interface on loopback: nodes and runs.

    Every method raises ``ServiceError`` if it does not answer.
    """

    def __init__(self, home: CoordinatorHome) -> None:
        self._client = ControlHttpClient(
            f"http://{LOOPBACK}:{home.config.control_port}",
            interceptors=[_ShowSecret(home.control_secret())],
        )

    def register(self, key: bytes, name: str) -> int:
        """Let the node with this transport key (PEM) in; its id at Flower."""
        request = RegisterNodeRequest(public_key=key, name=name)
        return _asked(lambda: self._client.RegisterNode(request)).node_id

    def nodes(self) -> dict[bytes, int]:
        """Ids of all nodes that were registered, by transport key (PEM)."""
        answer = _asked(lambda: self._client.ListNodes(ListNodesRequest()))
        return {node.public_key: node.node_id for node in answer.nodes_info}

    def online(self) -> dict[bytes, int]:
        """Ids of those nodes that are there."""
        answer = _asked(lambda: self._client.ListNodes(ListNodesRequest()))
        there = (node for node in answer.nodes_info if node.status == NodeStatus.ONLINE)
        return {node.public_key: node.node_id for node in there}

    def start_run(self, name: str) -> int:
        """Start our run ``name`` as one of Flower's, with the release's bundle; its id."""
        bundle = build(BUNDLE.read_bytes())
        request = StartRunRequest(
            fab=Fab(hash_str=hashlib.sha256(bundle).hexdigest(), content=bundle),
            override_config=user_config_to_proto({RUN_KEY: name}),
        )
        return _asked(lambda: self._client.StartRun(request)).run_id

    def stop_runs(self) -> int:
        """Stop all of Flower's runs that are not finished; how many there were."""
        request = ListRunsRequest(limit=_RUNS_LOOKED_AT)
        runs = _asked(lambda: self._client.ListRuns(request)).run_dict.values()
        open_runs = [run.run_id for run in runs if run.status.status != _FINISHED]
        for run in open_runs:
            self.stop_run(run)
        return len(open_runs)

    def stop_run(self, run: int) -> None:
        """Stop one of Flower's runs, by its id."""
        _asked(lambda: self._client.StopRun(StopRunRequest(run_id=run)))

    def clear(self, run: int) -> None:
        """Have Flower delete what is left of one of its runs, which is stopped if it is not over.

        Flower deletes messages and their parts when it stops a run, but of one that is over only
        when it is asked about it.
        """
        request = ListRunsRequest(run_id=run)
        found = _asked(lambda: self._client.ListRuns(request)).run_dict[run]
        if found.status.status != _FINISHED:
            self.stop_run(run)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _asked(ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except httpx.HTTPError as error:
        raise ServiceError(
            f"Flower's control interface did not answer as it should ({type(error).__name__}); is "
            "the coordinator up? see its log"
        ) from error


class _ShowSecret:
    """Adds the secret that the guard on loopback asks for."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Send the request with it."""
        add_headers(context.request, {CONTROL_HEADER: self._secret})
        return call_next(context)
