"""A coordinator's home: the folder with its config, curriculum, keys, nodes, runs and models."""

import secrets
from dataclasses import dataclass
from pathlib import Path

import yaml

from cloister_server.config import CoordinatorConfig
from cloister_server.directory import Directory
from cloister_server.notary import Notary
from cloister_server.pki import Authority, issue, make_authority, serves
from cloister_server.registry import Registry
from cloister_shared.curriculum import Curriculum, load_curriculum
from cloister_shared.durable import SECRET, write_durably
from cloister_shared.errors import ConfigError
from cloister_shared.fingerprints import coordinator_fingerprint
from cloister_shared.folders import built_beside
from cloister_shared.journal import Journal
from cloister_shared.secret_files import read_secret, read_signing_key, write_secret
from cloister_shared.signing import SigningKey
from cloister_shared.yaml_config import load_yaml

CONFIG, CURRICULUM, KEYS = "coordinator.yaml", "curriculum.json", "keys"
NODES, INVITATIONS, NOTARY = "nodes.json", "invitations.json", "notary.json"
SUPERLINK = "superlink.sqlite"
RUNS, REGISTRY, RUNNING, LOGS = "runs", "registry", "run", "log"
AUTHORITY_KEY, AUTHORITY, TLS_KEY, TLS = "ca.key", "ca.pem", "tls.key", "tls.pem"
SIGNING_KEY, SUPEREXEC_SECRET, CONTROL_SECRET = "signing.key", "superexec.secret", "control.secret"
NODE_JOURNAL, LINK_JOURNAL = "nodes", "link"
_SECRET_BYTES = 32


@dataclass(frozen=True)
class CoordinatorHome:
    """An opened home. Its keys make the coordinator: back up the whole folder, show it nobody."""

    path: Path
    config: CoordinatorConfig
    curriculum: Curriculum

    @classmethod
    def create(
        cls, path: Path, config: CoordinatorConfig, curriculum: Curriculum
    ) -> "CoordinatorHome":
        """Make a home with fresh keys in an empty or new folder: a whole home, or none.

        Raises ``ConfigError`` if the folder holds anything.
        """
        with built_beside(path, "a coordinator", last=CONFIG) as unfinished:
            cls(unfinished, config, curriculum)._write()
        return cls(path, config, curriculum)

    @classmethod
    def open(cls, path: Path) -> "CoordinatorHome":
        """An existing home; ``ConfigError`` if a part is missing, broken or readable by all."""
        if not (path / CONFIG).is_file():
            raise ConfigError(
                f"{path} is no coordinator's home: it has no {CONFIG}; see cloister coordinator "
                "init"
            )
        config = load_yaml(path / CONFIG, CoordinatorConfig)
        home = cls(path, config, load_curriculum(path / CURRICULUM))
        home.signing_key()
        home.authority()
        for name in (TLS_KEY, SUPEREXEC_SECRET, CONTROL_SECRET):
            read_secret(home.keys / name)
        return home

    @property
    def keys(self) -> Path:
        """The folder of the keys."""
        return self.path / KEYS

    @property
    def runs(self) -> Path:
        """The folder with one folder for each run."""
        return self.path / RUNS

    @property
    def registry(self) -> Path:
        """The folder of the model versions."""
        return self.path / REGISTRY

    @property
    def logs(self) -> Path:
        """The folder of what the processes wrote."""
        return self.path / LOGS

    @property
    def running(self) -> Path:
        """The folder with the state of the processes that are up."""
        return self.path / RUNNING

    @property
    def superlink(self) -> Path:
        """The SQLite file with Flower's state."""
        return self.path / SUPERLINK

    @property
    def fingerprint(self) -> str:
        """What the operator reads to administrators who were invited."""
        return coordinator_fingerprint(self.signing_key().public, self.authority_pem())

    def signing_key(self) -> SigningKey:
        """What receipts, requests, kits and model versions are signed with."""
        return read_signing_key(self.keys / SIGNING_KEY)

    def authority(self) -> Authority:
        """The consortium's certificate authority; ``ConfigError`` if it cannot be read."""
        try:
            key = read_secret(self.keys / AUTHORITY_KEY)
            return Authority.from_pem(key, self.authority_pem().encode())
        except ValueError as error:
            raise ConfigError(
                f"{self.keys / AUTHORITY_KEY} is no key; restore the keys of this folder"
            ) from error

    def authority_pem(self) -> str:
        """The authority's certificate, which every node pins."""
        try:
            return (self.keys / AUTHORITY).read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{self.keys / AUTHORITY} cannot be read; restore the keys of this folder"
            ) from error

    def tls_files(self) -> tuple[Path, Path]:
        """The server's certificate and its key, for TLS.

        They are made anew first if they end soon, or if the config has other addresses by now.
        """
        certificate, key = self.keys / TLS, self.keys / TLS_KEY
        if not (certificate.exists() and serves(certificate.read_bytes(), self.config.addresses)):
            self._issue()
        return certificate, key

    def superexec_secret(self) -> bytes:
        """What a process must show to take a run's work from Flower."""
        return read_secret(self.keys / SUPEREXEC_SECRET)

    def control_secret(self) -> str:
        """What a process must show to use Flower's control interface, on loopback as well."""
        return read_secret(self.keys / CONTROL_SECRET).decode()

    def directory(self) -> Directory:
        """The consortium's nodes."""
        return Directory(self.path / NODES)

    def notary(self) -> Notary:
        """What is known of the nodes' ledgers, for all runs; it hears approved nodes alone."""
        return Notary(self.path / NOTARY, self.signing_key(), self.directory().signing_key)

    def journal(self) -> Journal:
        """What became of nodes: invited, joined, approved, revoked; several processes write it."""
        return Journal(self.logs / f"{NODE_JOURNAL}.jsonl")

    def link_journal(self) -> Journal:
        """What the public listener refused: anybody may have it written, and older lines go."""
        return Journal(self.logs / f"{LINK_JOURNAL}.jsonl")

    def models(self) -> Registry:
        """The model versions."""
        return Registry(self.registry, self.signing_key(), self.curriculum)

    def _write(self) -> None:
        for folder in (self.keys, self.runs, self.registry, self.running, self.logs):
            folder.mkdir(mode=0o700)
        write_secret(self.keys / SIGNING_KEY, SigningKey.generate().to_bytes())
        key, certificate = make_authority(self.config.consortium).to_pem()
        write_secret(self.keys / AUTHORITY_KEY, key)
        (self.keys / AUTHORITY).write_bytes(certificate)
        self._issue()
        for name in (SUPEREXEC_SECRET, CONTROL_SECRET):
            write_secret(self.keys / name, secrets.token_hex(_SECRET_BYTES).encode())
        document = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
        (self.path / CONFIG).write_text(document, encoding="utf-8")
        self.curriculum.save(self.path / CURRICULUM)

    def _issue(self) -> None:
        key, certificate = issue(self.authority(), self.config.addresses)
        write_durably(self.keys / TLS_KEY, key, SECRET)
        write_durably(self.keys / TLS, certificate)
