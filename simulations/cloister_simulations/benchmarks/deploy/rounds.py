"""How long a round takes: our warm processes, and the same apps under Flower's own commands."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

import cloister_server
from cloister_client.app import HOME_KEY
from cloister_client.home import NodeHome
from cloister_server.app import RUN_KEY
from cloister_server.checkpoint import read_checkpoint, save_checkpoint
from cloister_server.home import AUTHORITY
from cloister_shared.compression import Compression
from cloister_shared.model_specs.dkt import DktSpec
from cloister_simulations.benchmarks.deploy.consortium import (
    LOOPBACK,
    NAMES,
    consortium,
    first_state,
    free_port,
    make_coordinator,
    make_plan,
    make_school,
    times,
    until,
)
from cloister_simulations.benchmarks.skills import curriculum_of
from cloister_simulations.benchmarks.workers import end_group

SKILLS, HIDDEN = 100, 100
COLD = 3
"""Rounds that are not counted: their processes read what later ones find in memory."""
_ROUNDS_S, _STOCK_S, _PORT_S, _CONNECTION = 300.0, 600.0, 60.0, "bench"
_QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
_BIN = Path(sys.executable).parent


def warm_rounds(count: int, compression: Compression) -> list[float]:
    """Seconds of ``count`` rounds, from the end of one to the end of the next, once all is warm."""
    curriculum, spec = curriculum_of(SKILLS), DktSpec(skills=SKILLS, hidden=HIDDEN)
    wanted = count + COLD + 1
    plan = make_plan("warm", curriculum, spec, 2 * wanted, compression=compression)
    with tempfile.TemporaryDirectory() as folder, consortium(Path(folder), curriculum) as running:
        entries = running.rounds(first_state(plan, curriculum), wanted, _ROUNDS_S)
    return times(entries)[COLD : COLD + count]


def stock_rounds(count: int) -> list[float]:
    """Seconds of ``count`` rounds under flower-superlink and flower-supernode, after one more.

    With TLS and node authentication, like ours; in float32.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _stock_rounds(Path(folder), count)


def _stock_rounds(folder: Path, count: int) -> list[float]:
    curriculum, spec = curriculum_of(SKILLS), DktSpec(skills=SKILLS, hidden=HIDDEN)
    plan = make_plan("stock", curriculum, spec, 100 * count, compression="none")
    checkpoint = folder / "stock.checkpoint"
    save_checkpoint(checkpoint, first_state(plan, curriculum))
    flower = _Flower(folder)
    with ExitStack() as running:
        running.enter_context(flower.link())
        for name in NAMES:
            school = make_school(folder / name, curriculum)
            running.enter_context(flower.node(school))
        flower.call("run", str(_bundle()), _CONNECTION, *_config(RUN_KEY, checkpoint))
        until(lambda: read_checkpoint(checkpoint).round > count, "stock rounds", _STOCK_S)
    return [record.seconds for record in read_checkpoint(checkpoint).records[1 : count + 1]]


class _Flower:
    """Flower's own commands, over a folder with its settings and a certificate of ours."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._home = make_coordinator(folder / "keys", curriculum_of(1))
        self._address = f"{LOOPBACK}:{free_port()}"
        settings = folder / "flower"
        settings.mkdir()
        (settings / "config.toml").write_text(
            f'[superlink]\ndefault = "{_CONNECTION}"\n[superlink.{_CONNECTION}]\n'
            f'address = "{self._address}"\nroot-certificates = "{self._authority}"\n'
        )
        inherited = {**os.environ, **_QUIET, "FLWR_HOME": str(settings)}
        self._environment = {**inherited, "PATH": f"{_BIN}:{os.environ['PATH']}"}

    @contextmanager
    def link(self) -> Iterator[None]:
        """A SuperLink, as Flower starts it."""
        certificate, key = self._home.tls_files()
        host, port = self._address.split(":")
        with self._started(
            *("flower-superlink", "--host", host, "--port", port),
            *("--ssl-ca-certfile", str(self._authority)),
            *("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)),
            *("--enable-supernode-auth", "--disable-runtime-dependency-installation"),
            *("--database", str(self._folder / "state.sqlite")),
        ):
            until(lambda: _listens(host, int(port)), "the SuperLink", _PORT_S)
            yield

    @contextmanager
    def node(self, school: NodeHome) -> Iterator[None]:
        """A SuperNode for a school, registered first."""
        private, public = self._openssh(school)
        self.call("supernode", "register", str(public), _CONNECTION, "--name", school.path.name)
        with self._started(
            *("flower-supernode", "--superlink", self._address),
            *("--root-certificates", str(self._authority)),
            *("--auth-supernode-private-key", str(private)),
            *("--host", LOOPBACK, "--port", str(free_port())),
            *("--node-config", f'{HOME_KEY}="{school.path}"'),
        ):
            yield

    def call(self, *arguments: str) -> None:
        """``flwr`` with ``arguments``; ``CalledProcessError`` if it fails."""
        command = (str(_BIN / "flwr"), *arguments, "--format", "json")
        subprocess.run(  # noqa: S603 - Flower's own command
            command, check=True, capture_output=True, env=self._environment
        )

    @property
    def _authority(self) -> Path:
        return self._home.keys / AUTHORITY

    def _openssh(self, school: NodeHome) -> tuple[Path, Path]:
        """The school's transport key in the form that Flower's commands read."""
        school.make_transport_key()
        key = school.transport_key()
        private, public = (self._folder / f"{school.path.name}.{end}" for end in ("key", "pub"))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        private.chmod(0o600)
        public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
        return private, public

    @contextmanager
    def _started(self, *command: str) -> Iterator[None]:
        with _process((str(_BIN / command[0]), *command[1:]), self._environment):
            yield


@contextmanager
def _process(command: tuple[str, ...], environment: Mapping[str, str]) -> Iterator[None]:
    """A process that is ended on leaving, with whatever it has started."""
    process = subprocess.Popen(  # noqa: S603 - Flower's own command
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        end_group(process)


def _bundle() -> Path:
    return Path(cloister_server.__file__).parent / "bundle"


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _config(key: str, value: Path) -> tuple[str, str]:
    return ("--run-config", f'{key}="{value}"')
