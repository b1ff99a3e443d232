"""The node's config file, ``node.yaml``: the example with every field is in ``configs/node``."""

from pydantic import Field, ValidationInfo, field_validator

from cloister_shared.frozen import Frozen
from cloister_shared.plan import Groups
from cloister_shared.privacy import Policy
from cloister_shared.signing import PUBLIC_DIGITS

SMALLEST_DECLARED_SIZE = 50
_GRID_TENTHS = (10, 15, 20, 30, 50, 70)


class ServingConfig(Frozen):
    """Where the node's HTTP service listens; port 0 takes any free one."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8470, ge=0, le=65535)


class NodeConfig(Frozen):
    """What an institution decides about its node.

    ``declared_size`` is the public N̂: a rounded number, see :func:`declared_size_for`.
    ``cohorts`` is the public calendar of enrolment terms: each has a budget of its own.
    ``groups`` is the public vocabulary of groups of learners by which figures may be told apart.
    ``coordinator_key`` is the public key that receipts over the ledger must be signed with; None
    keeps to that of the first receipt.
    ``store_url`` is a SQLAlchemy URL; None keeps the store in the home's own SQLite file. In a
    ``simulation`` any declared size and a policy without a guarantee are allowed.
    """

    name: str = Field(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    simulation: bool = False
    declared_size: int = Field(ge=1)
    evaluation_share: float = Field(default=0.2, ge=0, lt=1)
    cohorts: tuple[str, ...] = Field(default=("all",), min_length=1)
    groups: Groups = ()
    coordinator_key: str | None = Field(default=None, pattern=rf"^[0-9a-f]{{{PUBLIC_DIGITS}}}$")
    store_url: str | None = None
    policy: Policy = Policy()
    serving: ServingConfig = ServingConfig()

    @field_validator("declared_size")
    @classmethod
    def _is_rounded(cls, size: int, info: ValidationInfo) -> int:
        rounded = declared_size_for(size)
        if size != rounded and not info.data.get("simulation", False):
            raise ValueError(
                f"{size} is not a public size; use 1, 1.5, 2, 3, 5 or 7 times a power of ten, at "
                f"least {SMALLEST_DECLARED_SIZE}: for {size} learners that is {rounded}"
            )
        return size

    @field_validator("cohorts")
    @classmethod
    def _stand_once(cls, cohorts: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(cohorts)) < len(cohorts):
            raise ValueError("each cohort stands once: it is charged once a round")
        return cohorts

    @field_validator("policy")
    @classmethod
    def _has_guarantee(cls, policy: Policy, info: ValidationInfo) -> Policy:
        if policy.allow_without_guarantee and not info.data.get("simulation", False):
            raise ValueError("allow_without_guarantee is for a node with simulation: true")
        return policy


def declared_size_for(count: int) -> int:
    """The least public size that is not below ``count``: 1, 1.5, 2, 3, 5 or 7 times 10^k, ≥ 50."""
    unit = 1
    while True:
        for tenths in _GRID_TENTHS:
            size = tenths * unit
            if size >= max(count, SMALLEST_DECLARED_SIZE):
                return size
        unit *= 10
