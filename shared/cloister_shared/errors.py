"""Errors that a person caused or can mend, each with the exit code its command ends with.

One sentence each: what was asked, what was found, what to do. No learner data in any of them.
Anything that is not a :class:`CloisterError` is a defect of ours and ends with exit code 1.
"""

INFINITE = 2**63 - 1
"""Micro-units that stand for an infinite price in an error."""


class CloisterError(Exception):
    """Base of all errors with a documented exit code."""

    exit_code = 1


class ConfigError(CloisterError):
    """A config file, plan or policy is not valid; lists every mistake at once."""

    exit_code = 3


class DataError(CloisterError):
    """Input data cannot be read: a missing column, a label that is not 0/1, an unknown skill."""

    exit_code = 4


class BudgetExceededError(CloisterError):
    """A charge does not fit the privacy budget; carries requested, remaining and difference.

    Amounts are RDP at the ledger's fixed order, in micro-units (1e-6).
    """

    exit_code = 5

    def __init__(self, message: str, requested: int, remaining: int) -> None:
        super().__init__(message)
        self.requested = requested
        self.remaining = remaining

    @property
    def difference(self) -> int:
        """Micro-units that are missing."""
        return self.requested - self.remaining


class RunError(CloisterError):
    """A run cannot go on: no quorum within the deadline, or no valid contribution."""

    exit_code = 6


class LedgerError(CloisterError):
    """The ledger is missing, shortened or altered; nothing is released.

    ``code`` is the one word of it that may leave the node.
    """

    exit_code = 7

    def __init__(self, message: str, code: str = "ledger") -> None:
        super().__init__(message)
        self.code = code


class PolicyError(CloisterError):
    """The institution's policy does not allow what was asked."""

    exit_code = 8

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class MessageError(CloisterError):
    """A message does not have the form that the protocol prescribes."""

    exit_code = 9


class ServiceError(CloisterError):
    """A service did not start or did not answer."""

    exit_code = 10


INTERRUPTED_EXIT_CODE = 130

MEANINGS = {
    0: "done",
    1: "defect of ours",
    2: "wrong usage",
    ConfigError.exit_code: "bad config",
    DataError.exit_code: "bad data",
    BudgetExceededError.exit_code: "budget exceeded",
    RunError.exit_code: "run failed",
    LedgerError.exit_code: "ledger broken",
    PolicyError.exit_code: "refused by policy",
    MessageError.exit_code: "bad message",
    ServiceError.exit_code: "service failed",
    INTERRUPTED_EXIT_CODE: "interrupted",
}
"""What each exit code of a command says."""
