"""What an audit of a mechanism found, signed by who ran it."""

from cloister_shared.canonical import canonical_json
from cloister_shared.frozen import Frozen
from cloister_shared.privacy.events import SampledGaussian
from cloister_shared.privacy.release import NoiseKind
from cloister_shared.signing import SigningKey, is_signed


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
    delta: float
    claim: float
    lower_bound: float
    p: float
    canaries: int
    guesses: int
    correct: int
    code_version: str

    @property
    def holds(self) -> bool:
        """Whether nothing was found against the claim."""
        return self.lower_bound <= self.claim


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
