"""The bundle on Flower's own deployment engine: SuperLink, two SuperNodes, real processes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.system.consortium import BUDGET, BUNDLE, NAMES, ROUNDS, make_home, make_run

from cloister_client.app import HOME_KEY
from cloister_client.home import NodeHome
from cloister_server.app import RUN_KEY
from cloister_server.checkpoint import RunState, read_checkpoint

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
FINISHED_S = 180


def test_two_supernodes_train_under_a_superlink_and_keep_the_model(tmp_path: Path) -> None:
    homes = [make_home(tmp_path / name) for name in NAMES]
    checkpoint = make_run(tmp_path)
    environment = flower_environment(tmp_path)
    port = free_port()
    write_connection(tmp_path / "flower", port)
    with ExitStack() as running:
        link = ["flower-superlink", "--insecure", "--disable-runtime-dependency-installation"]
        address = ["--host", "127.0.0.1", "--port", str(port)]
        running.enter_context(process([*link, *address], environment))
        wait_for_port(port)
        for home in homes:
            node = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}"]
            local = ["--host", "127.0.0.1", "--port", str(free_port())]
            config = ["--node-config", f'{HOME_KEY}="{home.path}"']
            running.enter_context(process([*node, *local, *config], environment))
        run = ["flwr", "run", str(BUNDLE), "test", "--run-config", f'{RUN_KEY}="{checkpoint}"']
        with process(run, environment) as started:
            assert started.wait(60) == 0
        state = wait_for_rounds(checkpoint)
        wait_for_models(homes)
    assert [record.participants for record in state.records] == [tuple(sorted(NAMES))] * ROUNDS
    for home in homes:
        assert home.ledger().spent()["train", "all"].epsilon(BUDGET.delta, "rdp") <= BUDGET.epsilon


def flower_environment(directory: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "FLWR_HOME": str(directory / "flower"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }


def write_connection(folder: Path, port: int) -> None:
    folder.mkdir()
    (folder / "config.toml").write_text(
        f'[superlink]\ndefault = "test"\n[superlink.test]\naddress = "127.0.0.1:{port}"\n'
        "insecure = true\n"
    )


@contextmanager
def process(command: list[str], environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is ended on leaving, with whatever it has started."""
    started = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            os.killpg(started.pid, 15)
            started.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for_port(port: int) -> None:
    until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "the SuperLink listens")


def wait_for_rounds(checkpoint: Path) -> RunState:
    until(lambda: read_checkpoint(checkpoint).round == ROUNDS, "all rounds are done")
    return read_checkpoint(checkpoint)


def wait_for_models(homes: list[NodeHome]) -> None:
    until(lambda: all(map(has_model, homes)), "every node has the released model")


def has_model(home: NodeHome) -> bool:
    with home.store() as store:
        return store.active_model("dkt") is not None


def until(condition, what: str) -> None:
    end = time.monotonic() + FINISHED_S
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {FINISHED_S} s: {what}")
        time.sleep(0.5)
