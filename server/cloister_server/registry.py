"""The model registry: immutable signed versions with their lineage, and which of them are active.

A version is two files that are written once: its weights, and its signed manifest with the plan.
What nodes are to serve is one small file, which promotions and rollbacks replace.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from cloister_server.checkpoint import RunState
from cloister_server.locked_document import LockedDocument
from cloister_shared.curriculum import Curriculum
from cloister_shared.durable import write_durably
from cloister_shared.errors import CloisterError, ConfigError
from cloister_shared.frozen import Frozen
from cloister_shared.model_manifest import (
    Claim,
    Manifest,
    SignedManifest,
    pseudonym,
    sha256_of,
    weights_document,
)
from cloister_shared.model_specs import Weights
from cloister_shared.plan import Plan
from cloister_shared.privacy.accounting import epsilon
from cloister_shared.signing import SigningKey

VERSIONS, ACTIVE = "versions", "active.json"
_WRITTEN_ONCE = 0o400
_SHORTEST = 6


@dataclass(frozen=True)
class Lineage:
    """What a finished run's checkpoint does not say of it.

    ``delta`` is what its ε is claimed at, ``keys`` are public signing keys by node, ``parents`` are
    versions by model kind from whose weights it started, ``audit`` is the report's file.
    """

    delta: float
    keys: Mapping[str, str]
    parents: Mapping[str, str]
    audit: Path


class Version(Frozen):
    """A kept model version: its signed manifest, and the whole plan of its run."""

    signed: SignedManifest
    plan: Plan

    @property
    def manifest(self) -> Manifest:
        """What it is and where it comes from."""
        return self.signed.manifest


class Choice(Frozen):
    """What nodes are to serve, version by model kind, and since when.

    ``serial`` is above that of every choice before: nodes go back to none of those.
    """

    since: AwareDatetime
    serial: int = Field(ge=1)
    models: dict[str, str]

    @classmethod
    def after(cls, before: "Choice | None", models: dict[str, str]) -> "Choice":
        """The choice of ``models`` that takes the place of ``before``.

        Serials follow the clock: of a registry that was put back from a backup they are above
        those that it has forgotten.
        """
        now = datetime.now(UTC)
        serial = max(int(now.timestamp()), 1 if before is None else before.serial + 1)
        return cls(since=now, serial=serial, models=models)


class _Choices(Frozen):
    """The choice that holds is the last; those before it are what a rollback goes back to."""

    choices: tuple[Choice, ...] = Field(default=())


class Registry:
    """The versions in ``folder``, signed with ``key``; all are of one ``curriculum``."""

    def __init__(self, folder: Path, key: SigningKey, curriculum: Curriculum) -> None:
        self._versions = folder / VERSIONS
        self._key = key
        self._curriculum = curriculum
        self._choices = LockedDocument(folder / ACTIVE, _Choices())

    def add(self, state: RunState, lineage: Lineage) -> tuple[Manifest, ...]:
        """Keep a finished run's models, each a version; those that are kept stay as they are."""
        self._versions.mkdir(mode=0o700, exist_ok=True)
        claim = claim_of(state.plan, lineage.delta)
        participants = sorted({name for one in state.records for name in one.participants})
        audit = sha256_of(lineage.audit.read_bytes()) if lineage.audit.exists() else None
        made = []
        for model in state.plan.models:
            document = weights_document(state.weights[model.spec.kind])
            manifest = Manifest(
                spec=model.spec,
                weights=sha256_of(document),
                plan=state.plan.digest,
                round=state.round,
                run=state.plan.run,
                participants=tuple(pseudonym(lineage.keys.get(one, one)) for one in participants),
                claim=claim,
                audit=None if claim is None else audit,
                parent=lineage.parents.get(model.spec.kind),
                created=datetime.now(UTC),
            )
            made.append(self._keep(manifest, document, state.plan))
        return tuple(made)

    def versions(self) -> tuple[Version, ...]:
        """All versions, the oldest first; ``ConfigError`` if one cannot be read or was altered."""
        files = self._versions.glob("*.json")
        return tuple(sorted((self._read(file) for file in files), key=_age))

    def get(self, name: str) -> Version:
        """The version whose name begins so; ``ConfigError`` unless there is exactly one."""
        found = sorted(self._versions.glob("*.json")) if len(name) >= _SHORTEST else []
        found = [file for file in found if file.stem.startswith(name)]
        if len(found) != 1:
            several = "several model versions begin" if found else "no model version begins"
            raise ConfigError(
                f"{several} with {name!r}; give at least {_SHORTEST} digits of one that "
                "cloister coordinator models list shows"
            )
        return self._read(found[0])

    def weights(self, version: Version) -> Weights:
        """Its weights; ``ConfigError`` if a bit of them, or of its manifest, was altered."""
        file = self._file(version.manifest.version, "safetensors")
        try:
            weights = load(file.read_bytes())
            version.signed.check(weights, self._key.public)
        except (OSError, SafetensorError, CloisterError) as error:
            raise ConfigError(
                f"{file} is not what was signed ({error}); restore it from a backup"
            ) from error
        return weights

    def active(self) -> Choice | None:
        """What nodes are to serve; ``None`` before the first model was promoted."""
        choices = self._choices.read().choices
        return choices[-1] if choices else None

    def promote(self, versions: Iterable[str]) -> Choice:
        """Let nodes serve these from now on, each in place of the active one of its kind.

        Every one of them is verified first. Those that are served already are chosen anew: a
        rollback still goes to what was served before them. Raises ``ConfigError`` for two of one
        kind, or for one of an older curriculum.
        """
        chosen: dict[str, str] = {}
        for name in versions:
            version = self.get(name)
            kind = version.manifest.kind
            if kind in chosen:
                raise ConfigError(f"two versions of {kind} were named; nodes serve one")
            self._require_servable(version)
            chosen[kind] = version.manifest.version

        def change(before: _Choices) -> _Choices:
            last = before.choices[-1] if before.choices else None
            models = {} if last is None else last.models
            earlier = before.choices[:-1] if models | chosen == models else before.choices
            return _Choices(choices=(*earlier, Choice.after(last, models | chosen)))

        return self._choices.change(change).choices[-1]

    def rollback(self) -> Choice:
        """Go back to what was served before the last promotion; ``ConfigError`` if nothing was."""

        def change(before: _Choices) -> _Choices:
            if len(before.choices) < 2:
                raise ConfigError(
                    "there is nothing to go back to: no model was promoted before the active ones"
                )
            *earlier, restored, last = before.choices
            return _Choices(choices=(*earlier, Choice.after(last, restored.models)))

        earlier = self._choices.read().choices[-2:-1]
        for name in earlier[0].models.values() if earlier else ():
            self._require_servable(self.get(name))
        return self._choices.change(change).choices[-1]

    def _require_servable(self, version: Version) -> None:
        self.weights(version)
        if version.plan.curriculum != self._curriculum.digest:
            raise ConfigError(
                f"the model {version.manifest.version} is of another curriculum than the "
                "consortium's; nodes would refuse it"
            )

    def _keep(self, manifest: Manifest, document: bytes, plan: Plan) -> Manifest:
        """Write both files, the manifest last: where it is, the version is whole."""
        file = self._file(manifest.version, "json")
        if file.exists():
            return self._read(file).manifest
        write_durably(self._file(manifest.version, "safetensors"), document, _WRITTEN_ONCE)
        version = Version(signed=SignedManifest.sign(manifest, self._key), plan=plan)
        write_durably(file, version.model_dump_json(indent=1).encode(), _WRITTEN_ONCE)
        return manifest

    def _read(self, file: Path) -> Version:
        try:
            version = Version.model_validate_json(file.read_bytes())
        except (OSError, ValidationError) as error:
            raise ConfigError(f"{file} cannot be read; restore it from a backup") from error
        fits = (
            version.manifest.version == file.stem and version.plan.digest == version.manifest.plan
        )
        if not (fits and version.signed.is_signed_by(self._key.public)):
            raise ConfigError(f"{file} was altered; restore it from a backup")
        return version

    def _file(self, version: str, suffix: str) -> Path:
        return self._versions / f"{version}.{suffix}"


def claim_of(plan: Plan, delta: float) -> Claim | None:
    """What the whole plan costs a learner of the train role; ``None`` without noise."""
    if not plan.is_private:
        return None
    events = [event for events in plan.events_by_round() for event in events]
    return Claim(
        epsilon=epsilon(events, delta),
        epsilon_pld=epsilon(events, delta, "pld"),
        delta=delta,
    )


def _age(version: Version) -> tuple[datetime, str]:
    return version.manifest.created, version.manifest.kind
