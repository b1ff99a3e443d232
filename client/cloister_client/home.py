"""A node's home: the folder with its config, curriculum, keys, store and ledger."""

import secrets
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from cloister_client.config import NodeConfig
from cloister_client.coordinator_link import CoordinatorLink
from cloister_client.ledger import PersonalChain, SqliteLedger
from cloister_client.ledger.place import require_place
from cloister_client.store import Pseudonymizer, Store, StoreRules
from cloister_client.store.pseudonyms import KEY_BYTES
from cloister_client.transport_key import fresh_key, public_pem, read_key
from cloister_shared import folders
from cloister_shared.curriculum import Curriculum, load_curriculum
from cloister_shared.durable import SECRET, write_durably
from cloister_shared.errors import CloisterError, ConfigError
from cloister_shared.journal import Event, Journal
from cloister_shared.privacy.ledger_format import LedgerHeader
from cloister_shared.privacy.ledger_totals import Totals
from cloister_shared.secret_files import read_secret, read_signing_key, write_secret
from cloister_shared.signing import SigningKey
from cloister_shared.yaml_config import load_yaml

CONFIG, CURRICULUM, KEYS = "node.yaml", "curriculum.json", "keys"
STORE, LEDGER = "store.sqlite", "ledger.sqlite"
PSEUDONYM_KEY, ROLE_KEY, API_TOKEN = "pseudonym.key", "role.key", "api.token"
SIGNING_KEY, TRANSPORT_KEY = "signing.key", "transport.key"
COORDINATOR = "coordinator.json"
"""What is pinned of the coordinator, once the node has joined."""
RUNNING, LOGS = "run", "log"
"""Folders of what is up over a home: made by ``cloister node up``."""
MODELS = "models.jsonl"
"""The journal, among the others, of which model serves since when."""
_TOKEN_BYTES = 32


@dataclass(frozen=True)
class NodeHome:
    """An opened home. Its keys are worth as much as the data: back up the whole folder."""

    path: Path
    config: NodeConfig
    curriculum: Curriculum

    @classmethod
    def create(cls, path: Path, config: NodeConfig, curriculum: Curriculum) -> "NodeHome":
        """Make a home with fresh keys, an empty ledger and a store in an empty or new folder.

        In a new folder a whole home or none, wherever the process ends. Raises ``ConfigError`` if
        the folder holds anything: nothing is overwritten, and nothing of it is changed.
        """
        with built_beside(path) as unfinished:
            home = cls(unfinished, config, curriculum)
            home._write_settings()
            SqliteLedger.create(
                unfinished / LEDGER, config.policy.budget, home.signing_key()
            ).close()
            home.store().close()
        require_place(path / LEDGER)
        return cls(path, config, curriculum)

    @classmethod
    def open(cls, path: Path) -> "NodeHome":
        """An existing home; raises ``ConfigError`` if a part is missing, broken or readable by all.

        A missing ledger is a ``LedgerError``: it is never made anew, that would forget what was
        spent. One that was made for another budget is a ``ConfigError``, see :meth:`ledger`.
        """
        if not _is_file(path / CONFIG):
            raise ConfigError(
                f"{path} is no node's home: it has no {CONFIG}; see cloister node init"
            )
        home = cls(path, load_yaml(path / CONFIG, NodeConfig), load_curriculum(path / CURRICULUM))
        for name in (PSEUDONYM_KEY, ROLE_KEY, API_TOKEN):
            home._secret(name)
        home.totals()
        return home

    def store(self) -> Store:
        """The learner records, opened; to be closed by the caller.

        What learners asked for is done first, should an older store have been put back. Raises
        ``ConfigError`` if learners belong to a cohort that the config no longer has.
        """
        keys = Pseudonymizer(
            self._secret(PSEUDONYM_KEY), self._secret(ROLE_KEY), self.config.evaluation_share
        )
        url = self.config.store_url or f"sqlite:///{self.path / STORE}"
        rules = StoreRules(
            consent=self.config.policy.consent,
            simulation=self.config.simulation,
            cohort=self.config.cohorts[-1],
            groups=self.config.groups,
        )
        with self.personal_chain() as chain:
            asked = chain.wishes()
        store = Store.open(url, self.curriculum, keys, rules, self._note_model)
        try:
            store.follow(asked)
            self._require_cohorts(store)
        except CloisterError:
            store.close()
            raise
        return store

    def personal_chain(self) -> PersonalChain:
        """What learners asked for, verified; to be closed by the caller."""
        return PersonalChain.open(self.path / LEDGER, self.signing_key())

    def ledger(self) -> SqliteLedger:
        """The privacy ledger, verified; to be closed by the caller.

        Raises ``ConfigError`` if the policy no longer says what the ledger was made for, and
        ``LedgerError`` if this is a copy of the home.
        """
        require_place(self.path / LEDGER)
        ledger = SqliteLedger.open(self.path / LEDGER, self.signing_key())
        try:
            self._require_budget(ledger.header)
        except ConfigError:
            ledger.close()
            raise
        return ledger

    def totals(self) -> tuple[LedgerHeader, Totals]:
        """The ledger's header and what is spent, at once: see :meth:`SqliteLedger.totals`.

        Raises as :meth:`ledger` does, but not for an older entry that was altered.
        """
        header, totals = SqliteLedger.totals(self.path / LEDGER, self.signing_key())
        self._require_budget(header)
        return header, totals

    def api_token(self) -> str:
        """What clients of the node's HTTP service send as bearer token."""
        return self._secret(API_TOKEN).decode()

    def signing_key(self) -> SigningKey:
        """What the node signs its replies with; raises ``ConfigError`` if it is no key."""
        return read_signing_key(self.path / KEYS / SIGNING_KEY)

    def coordinator(self) -> CoordinatorLink | None:
        """What was pinned of the coordinator when the node joined; ``None`` before that."""
        path = self.path / COORDINATOR
        return CoordinatorLink.load(path) if path.exists() else None

    def require_coordinator(self, key: str) -> None:
        """Raise ``ConfigError`` if the node belongs to a coordinator with another public key."""
        link = self.coordinator()
        for pinned, where in (
            (None if link is None else link.key, COORDINATOR),
            (self.config.coordinator_key, CONFIG),
        ):
            if pinned not in (None, key):
                raise ConfigError(
                    f"{self.path / where} names another coordinator's key; a node takes part in "
                    "one consortium: make another node, or delete that entry if the coordinator "
                    "was made anew"
                )

    def pin(self, link: CoordinatorLink) -> None:
        """Keep to this coordinator from now on; raises as :meth:`require_coordinator` does.

        Where none was pinned, its releases may have any serial: one before it may have been made
        anew because its key was in wrong hands, which can sign the highest serial that there is.
        """
        self.require_coordinator(link.key)
        if self.coordinator() is None:
            with self.store() as store:
                store.forget_serials()
        link.save(self.path / COORDINATOR)

    def witness(self) -> str | None:
        """The public key that receipts and requests must be signed with, if one is pinned."""
        link = self.coordinator()
        if link is not None:
            self.require_coordinator(link.key)
            return link.key
        return self.config.coordinator_key

    def make_transport_key(self) -> None:
        """Make the key of the node's requests to Flower, unless it has one."""
        path = self.path / KEYS / TRANSPORT_KEY
        if not path.exists():
            write_durably(path, fresh_key(), SECRET)

    def transport_key(self) -> EllipticCurvePrivateKey:
        """The P-384 key of the node's requests to Flower; ``ConfigError`` if it cannot be read."""
        return read_key(self.path / KEYS / TRANSPORT_KEY)

    def transport_public_key(self) -> str:
        """Its public half, as PEM."""
        return public_pem(self.transport_key())

    def _require_budget(self, header: LedgerHeader) -> None:
        given, fixed = self.config.policy.budget, header.budget
        if given != fixed:
            raise ConfigError(
                f"{CONFIG} says epsilon {given.epsilon:g} at delta {given.delta:g}, the ledger was "
                f"made for {fixed.epsilon:g} at {fixed.delta:g}; a budget is fixed for ever"
            )

    def _require_cohorts(self, store: Store) -> None:
        missing = sorted(store.cohorts().difference(self.config.cohorts))
        if missing:
            raise ConfigError(
                f"{CONFIG} no longer has the cohort {', '.join(missing)}, to which learners "
                "belong; add it again: a cohort is never removed"
            )

    def _note_model(self, action: str, kind: str, version: str) -> None:
        """Keep a journal of which model serves since when."""
        journal = Journal(self.path / LOGS / MODELS)
        journal.write(Event.MODEL, action=action, model=kind, version=version)

    def _write_settings(self) -> None:
        """Fresh keys, the config and the curriculum."""
        keys = self.path / KEYS
        keys.mkdir(mode=0o700)
        write_secret(keys / PSEUDONYM_KEY, secrets.token_bytes(KEY_BYTES))
        write_secret(keys / ROLE_KEY, secrets.token_bytes(KEY_BYTES))
        write_secret(keys / SIGNING_KEY, SigningKey.generate().to_bytes())
        write_secret(keys / API_TOKEN, secrets.token_urlsafe(_TOKEN_BYTES).encode())
        document = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
        (self.path / CONFIG).write_text(document, encoding="utf-8")
        self.curriculum.save(self.path / CURRICULUM)

    def _secret(self, name: str) -> bytes:
        return read_secret(self.path / KEYS / name)


def built_beside(path: Path) -> AbstractContextManager[Path]:
    """A new folder that takes the place of ``path`` in the end: a whole home, or none."""
    return folders.built_beside(path, "a node", last=CONFIG)


def _is_file(path: Path) -> bool:
    """Whether ``path`` is a file; ``ConfigError`` if its folder may not be looked into."""
    try:
        return path.is_file()
    except OSError as error:
        raise ConfigError(f"cannot read {path.parent}: {error.strerror}") from error
