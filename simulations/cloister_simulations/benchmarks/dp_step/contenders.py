"""Who takes part, how often, and what each process finds in its environment."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "OMP_", "GOMP_", "KMP_", "MKL_")
"""What would reach the allocator or the threads of a contender, were it inherited."""


@dataclass(frozen=True)
class Contender:
    """A way to take the step: the module and class that takes it, in a process of its own.

    In every round it takes ``turns`` steps. ``ours`` gets what the product sets when it starts.
    """

    name: str
    where: str
    turns: int
    ours: bool = False


HOOKS = Contender("opacus_hooks", "opacus_dplstm:Hooks", turns=1)
GHOST = Contender("opacus_ghost", "opacus_dplstm:Ghost", turns=1)
NN_LSTM = Contender("nn_lstm", "one_hot:NonPrivate", turns=5)
PRIVATE = Contender("ours_private", "ours:Private", turns=5, ours=True)
PLAIN = Contender("ours_plain", "ours:Plain", turns=5, ours=True)
FLOOR = Contender("gemm_floor", "floor:Products", turns=5)


@dataclass(frozen=True)
class Allocator:
    """How glibc's allocator is set, and who takes part with it.

    ``environment`` is for all contenders alike. With ``as_product`` ours sets its own, as the
    product does when it starts.
    """

    name: str
    contenders: Sequence[Contender]
    environment: Mapping[str, str]
    as_product: bool

    def keeps_freed_memory(self, contender: Contender) -> bool:
        """Whether the contender's process calls what the product calls when it starts."""
        return contender.ours and self.as_product

    def settings(self, contender: Contender) -> dict[str, str]:
        """What is set for the contender; ours waits passively, as every ``cloister`` command."""
        waits = {"OMP_WAIT_POLICY": "PASSIVE"} if contender.ours else {}
        return {**self.environment, **waits}

    def whole_environment(self, contender: Contender) -> dict[str, str]:
        """This process's environment without what could favour one, and with the settings."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)
        }
        return {**inherited, **self.settings(contender)}


TUNED = Allocator(
    name="tuned",
    contenders=(HOOKS, GHOST, NN_LSTM, PRIVATE, PLAIN, FLOOR),
    # Blocks of any size stay in the heap, and the heap keeps them.
    environment={
        "MALLOC_MMAP_THRESHOLD_": "4294967296",
        "MALLOC_TRIM_THRESHOLD_": "17179869184",
    },
    as_product=False,
)
DEFAULT = Allocator(
    name="default", contenders=(HOOKS, NN_LSTM, PRIVATE), environment={}, as_product=True
)
