"""What an audit of a mechanism found, signed by who ran it."""

from typing import Self

from pydantic import Field, model_validator

from cloister_shared.canonical import canonical_json
from cloister_shared.frozen import Frozen
from cloister_shared.privacy.events import SampledGaussian
from cloister_shared.privacy.release import NoiseKind
from cloister_shared.signing import SigningKey, is_signed

MOST_DELTA = 1e-3
"""At a larger δ an ε says little, and near 1 nothing: whatever was found would hold."""
SHARP_NOISE, SHARP_CANARIES = 2.0, 100_000
"""Noise multiplier at most, and canaries at least, where half of the noise shows in one step."""


class AuditReport(Frozen):
    """``correct`` of ``guesses`` were right which of ``canaries`` were in the data of one round.

    ``claim`` is ε at ``delta`` of ``event``. ``lower_bound`` is ε at the same δ of the noisiest
    such event, of as many steps on as large samples, by which so many right guesses have a
    probability above ``p``.
    """

    kind: str
    event: SampledGaussian
    clip_norm: float
    noise: NoiseKind
    delta: float = Field(gt=0, le=MOST_DELTA)
    claim: float = Field(ge=0)
    lower_bound: float = Field(ge=0)
    p: float = Field(gt=0, le=1e-3)
    canaries: int
    guesses: int = Field(ge=1)
    correct: int = Field(ge=0)
    code_version: str

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if not self.correct <= self.guesses <= self.canaries:
            raise ValueError("of the canaries some are guessed, and of these some rightly")
        return self

    @property
    def holds(self) -> bool:
        """Whether nothing was found against the claim."""
        return self.lower_bound <= self.claim

    @property
    def is_sharp(self) -> bool:
        """Whether half of the noise would have been found: nothing hides the canaries."""
        event = self.event
        visible = event.sampling_rate == 1 and event.noise_multiplier <= SHARP_NOISE
        return visible and self.canaries >= SHARP_CANARIES


class SignedAudit(Frozen):
    """Reports of one audit, and the signature of ``key`` under them."""

    reports: tuple[AuditReport, ...]
    key: str
    signature: str

    @classmethod
    def sign(cls, reports: tuple[AuditReport, ...], key: SigningKey) -> "SignedAudit":
        """The reports with the signature of who made them."""
        return cls(reports=reports, key=key.public, signature=key.sign(_content(reports)))

    @property
    def is_authentic(self) -> bool:
        """Whether the holder of ``key`` signed exactly these reports."""
        return is_signed(_content(self.reports), self.signature, self.key)


def _content(reports: tuple[AuditReport, ...]) -> bytes:
    found = [report.model_dump(mode="json") for report in reports]
    return canonical_json({"type": "privacy_audit", "reports": found})
