"""The contract with the SuperLink's unstable parts, held against a SuperLink that is up."""

import ssl
from collections.abc import Iterator
from dataclasses import fields
from typing import cast

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from flwr.common import constant
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore import constant as supercore
from flwr.supercore import sql_mixin
from flwr.supercore.corestate.sql_corestate import SqlCoreState
from flwr.superlink import main
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from tests.hosted import Keys, hosted_with, make_coordinator

from cloister_server import guard, superlink
from cloister_server.grid import acquire
from cloister_server.home import CoordinatorHome
from cloister_server.superlink import IDLE, LOOPBACK, Control, make_app, seldom
from cloister_shared.errors import ServiceError

OAK = Keys()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorHome]:
    with hosted_with(tmp_path_factory.mktemp("coordinator"), oak=OAK) as home:
        yield home


@pytest.fixture
def control(home: CoordinatorHome) -> Iterator[Control]:
    control = Control(home)
    yield control
    control.stop_runs()
    control.close()


def private(home: CoordinatorHome, path: str, **headers: str) -> int:
    """Status of an empty request on loopback."""
    kind = {"content-type": "application/protobuf"}
    address = f"http://{LOOPBACK}:{home.config.control_port}{path}"
    return httpx.post(address, content=b"", headers={**kind, **headers}).status_code


def public(home: CoordinatorHome, path: str, method: str = "POST") -> int:
    """Status of an empty request of a stranger."""
    trust = ssl.create_default_context(cadata=home.authority_pem())
    address = f"https://{LOOPBACK}:{home.config.port}{path}"
    with httpx.Client(verify=trust) as client:
        return client.request(method, address, content=b"").status_code


def routes(home: CoordinatorHome) -> set[tuple[str, str]]:
    """Every method and path that Flower's app knows."""
    found = set()
    for context in iter_route_contexts(make_app(home).routes):
        for method in getattr(context.route, "methods", None) or ():
            found.add((method, context.route.path))
    return found


def test_flower_asks_for_the_settings_that_we_give() -> None:
    given = {
        "host",
        "port",
        "database",
        "superexec_auth_secret",
        "enable_supernode_auth",
        "isolation",
        "runtime_dependency_install",
        "simulation",
        "insecure",
        "certificates",
        "ssl_ca_certfile",
        "ssl_certfile",
        "ssl_keyfile",
        "control_address",
        "fleet_api_type",
        "fleet_api_address",
        "health_server_address",
        "authn_plugin",
        "event_log_plugin",
        "fleet_event_log_plugin",
        "enable_event_log",
        "artifact_provider",
    }
    assert {one.name for one in fields(SuperLinkLifespanConfig)} == given


def test_the_guards_names_are_flowers() -> None:
    assert guard.PUBLIC_KEY.decode() == supercore.FLEET_HTTP_PUBLIC_KEY_HEADER
    assert guard.SIGNATURE.decode() == supercore.FLEET_HTTP_SIGNATURE_HEADER
    assert guard.TIMESTAMP.decode() == constant.TIMESTAMP_HEADER
    assert guard.OLDEST_S == supercore.MAX_TIMESTAMP_DIFF_SECONDS
    assert guard.NEWEST_S == supercore.MIN_TIMESTAMP_DIFF_SECONDS


def test_connections_to_sqlite_have_small_caches(home: CoordinatorHome) -> None:
    pragmas = dict(vars(sql_mixin)["SQLITE_PRAGMAS"])
    assert (pragmas["cache_size"], pragmas["mmap_size"]) == ("-8000", "0")
    assert pragmas["journal_mode"] == "WAL"


def test_tasks_without_heartbeats_are_looked_for_once_a_second(home: CoordinatorHome) -> None:
    """Flower does it by this method, before most of what it answers."""
    looked: list[float] = []
    clock: list[float] = []
    expire = seldom(lambda state: looked.append(clock[-1]), lambda: clock[-1])
    for moment in (100.0, 100.2, 100.9, 101.0, 101.5, 109.0):
        clock.append(moment)
        expire(cast(SqlCoreState, object()))
    assert looked == [100.0, 101.0, 109.0]
    assert "_cleanup_expired_task_tokens" in SqlLinkState.get_run_status.__code__.co_names
    assert SqlLinkState._cleanup_expired_task_tokens.__module__ == superlink.__name__


def test_flowers_layers_are_those_that_we_know() -> None:
    idle = {one.__name__ for one in IDLE}
    layers = [one.cls.__name__ for one in main._get_middleware()]
    assert [name for name in layers if name not in idle] == [
        "BaseHTTPMiddleware",
        "ControlAuthenticationMiddleware",
        "ProtobufTranslationMiddleware",
        "NodeAuthMiddleware",
    ]
    assert idle < set(layers)


def test_only_fleet_paths_answer_on_the_public_listener(home: CoordinatorHome) -> None:
    known = {(method, path) for method, path in routes(home) if method in ("GET", "POST")}
    assert {("POST", path) for path in guard.FLEET_PATHS} <= known
    assert {"/docs", "/v1/control/start-run", "/v1/fleet/register-node"} <= {
        path for _, path in known
    }
    for method, path in sorted(known):
        is_open = method == "POST" and path in guard.FLEET_PATHS
        # 401: this is a stranger, whom the open paths ask for a signature first.
        assert public(home, path.replace("{", "").replace("}", ""), method) == (
            401 if is_open else 404
        ), path


def test_control_without_the_secret_is_refused_on_loopback_too(home: CoordinatorHome) -> None:
    assert private(home, "/v1/control/list-nodes") == 403
    assert private(home, "/v1/control/list-nodes", **{guard.CONTROL_HEADER: "guess"}) == 403


@pytest.mark.parametrize("path", ["acquire-task", "pull-task-input", "get-nodes", "push-messages"])
def test_a_run_is_taken_by_nobody_without_secret_or_token(home: CoordinatorHome, path: str) -> None:
    assert private(home, f"/v1/runtime/{path}") in (401, 403)


def test_approved_nodes_are_known_by_their_keys(home: CoordinatorHome, control: Control) -> None:
    assert control.nodes().keys() == {OAK.pem}


def test_a_run_is_started_under_our_name_and_acquired_once(
    home: CoordinatorHome, control: Control
) -> None:
    assert acquire(home) is None
    control.start_run("autumn")
    task = acquire(home)
    assert task is not None
    assert task.run == "autumn"
    assert acquire(home) is None
    task.finish()
    assert control.stop_runs() == 0


def test_runs_that_an_earlier_runner_left_are_stopped(
    home: CoordinatorHome, control: Control
) -> None:
    control.start_run("autumn")
    control.start_run("winter")
    assert control.stop_runs() == 2
    assert control.stop_runs() == 0
    assert acquire(home) is None


def test_a_link_that_is_away_is_a_service_error(tmp_path) -> None:
    home = make_coordinator(tmp_path / "away")
    with pytest.raises(ServiceError, match="is the coordinator up"):
        Control(home).nodes()
    with pytest.raises(ServiceError, match="is the coordinator up"):
        acquire(home)
