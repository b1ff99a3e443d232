"""What a model version is and where it comes from, signed by the coordinator that released it."""

import hashlib

from pydantic import AwareDatetime, Field
from safetensors.numpy import save

from cloister_shared.canonical import canonical_json, digest
from cloister_shared.errors import PolicyError
from cloister_shared.frozen import Frozen
from cloister_shared.model_specs import AnySpec, ModelSpec, Weights, check_weights
from cloister_shared.signing import SigningKey, is_signed

PSEUDONYM_DIGITS = 16


class Claim(Frozen):
    """ε at ``delta`` of all rounds of a run together, both models', for who was in each of them.

    ``epsilon`` is RDP's; ``epsilon_pld`` is tighter, and valid for plans fixed in advance.
    """

    epsilon: float = Field(ge=0)
    epsilon_pld: float = Field(ge=0)
    delta: float = Field(gt=0, lt=1)


class Manifest(Frozen):
    """One model version: what it is, and its lineage.

    ``weights`` is the SHA-256 of the safetensors document, ``plan`` the digest of the run's plan.
    ``participants`` are pseudonyms of the nodes of which any contribution counted, ``parent`` is
    the version from whose weights the run started. ``claim`` and ``audit``, the SHA-256 of the
    audit's report, are of private runs.
    """

    spec: AnySpec
    weights: str
    plan: str
    round: int = Field(ge=1)
    run: str
    participants: tuple[str, ...]
    claim: Claim | None = None
    audit: str | None = None
    parent: str | None = None
    created: AwareDatetime

    @property
    def kind(self) -> str:
        """The model's kind."""
        return self.spec.kind

    @property
    def version(self) -> str:
        """The version's name, by which nodes know it as well; lineage is no part of it."""
        return version_of(self.spec, self.weights, self.plan, self.round)


class SignedManifest(Frozen):
    """A manifest and the signature of ``key`` under it."""

    manifest: Manifest
    key: str
    signature: str

    @classmethod
    def sign(cls, manifest: Manifest, key: SigningKey) -> "SignedManifest":
        """The manifest with the coordinator's signature."""
        return cls(manifest=manifest, key=key.public, signature=key.sign(_content(manifest)))

    def is_signed_by(self, key: str) -> bool:
        """Whether the holder of ``key`` signed exactly this manifest."""
        return self.key == key and is_signed(_content(self.manifest), self.signature, key)

    def check(self, weights: Weights, coordinator: str | None) -> None:
        """Raise ``PolicyError`` unless ``coordinator`` signed it for exactly these weights.

        None stands for whoever signed: who knows no coordinator sees no more than that they fit.
        """
        if not self.is_signed_by(coordinator or self.key):
            raise PolicyError("the model is not signed by the coordinator", "signature")
        check_weights(weights, self.manifest.spec)
        if sha256_of(weights_document(weights)) != self.manifest.weights:
            raise PolicyError("the model's weights are not those that were signed", "weights")


def weights_document(weights: Weights) -> bytes:
    """The weights as one safetensors document; equal weights are the same bytes."""
    return save(dict(sorted(weights.items())))


def sha256_of(document: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(document).hexdigest()


def version_of(spec: ModelSpec, weights: str, plan: str, round_number: int) -> str:
    """A SHA-256 over all that defines a model version: the same everywhere, never used twice.

    ``weights`` is the SHA-256 of its document.
    """
    return digest({"spec": spec.digest, "weights": weights, "plan": plan, "round": round_number})


def pseudonym(signing_key: str) -> str:
    """What a node is called in lineages, by its public key: the same in all, to be found by it."""
    return digest({"type": "participant", "key": signing_key})[:PSEUDONYM_DIGITS]


def _content(manifest: Manifest) -> bytes:
    return canonical_json({"type": "model", "manifest": manifest.model_dump(mode="json")})
