"""What an institution allows: (ε, δ), and the one RDP order at which it is kept.

Adaptive privacy filters are proved for RDP at an order that is fixed in advance (Feldman and
Zrnic, "Individual Privacy Accounting via a Rényi Filter", 2021, section 4), so the order follows
from (ε, δ) alone and never changes afterwards.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cloister_shared.errors import INFINITE, BudgetExceededError, ConfigError
from cloister_shared.frozen import Frozen
from cloister_shared.privacy.accounting import MICRO, cost, step_rdp
from cloister_shared.privacy.events import NonPrivate, SampledGaussian
from cloister_shared.privacy.orders import ORDERS
from cloister_shared.privacy.renyi import conversion


class Budget(Frozen):
    """An (ε, δ) guarantee for one learner's whole history."""

    epsilon: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)

    @cached_property
    def order(self) -> float:
        """The fixed Rényi order: the best of ``ORDERS`` for a Gaussian that spends exactly ε.

        A Gaussian's RDP is ρα, so ``allowance`` α pays for ρ = allowance / α: the largest ρ is the
        least noise.
        """
        orders = np.array(ORDERS, dtype=np.float64)
        return float(orders[np.argmax(self._allowance(orders) / orders)])

    @cached_property
    def limit(self) -> int:
        """Micro-units of RDP at ``order`` that may be spent; may be 0 for a tiny ε."""
        return max(0, math.floor(float(self._allowance(np.array(self.order))) * MICRO))

    def _allowance(self, order: NDArray[np.float64]) -> NDArray[np.float64]:
        """RDP at each ``order`` that converts to exactly ε; negative where none is small enough."""
        return self.epsilon - conversion(order, self.delta)

    def require(
        self, rounds: Iterable[Sequence[SampledGaussian | NonPrivate]], remaining: int
    ) -> None:
        """Raise ``BudgetExceededError`` unless all ``rounds`` fit into ``remaining`` micro-units.

        ``rounds`` gives the events of each round, in order; the error says how many would fit.
        """
        prices = [cost(events, self.order) for events in rounds]
        running = list(accumulate(math.inf if price is None else price for price in prices))
        needed = running[-1] if running else 0
        if needed <= remaining:
            return
        fit = sum(total <= remaining for total in running)
        finite = not math.isinf(needed)
        requested = int(needed) if finite else INFINITE
        raise BudgetExceededError(
            f"the plan's {len(prices)} rounds need {requested if finite else 'infinitely many'} "
            f"micro-RDP at order {self.order:g}; {remaining} remain of {self.limit} "
            f"(ε = {self.epsilon:g} at δ = {self.delta:g}), "
            f"{requested - remaining if finite else 'infinitely many'} are missing; "
            f"at most {fit} rounds would fit",
            requested=requested,
            remaining=remaining,
        )

    def calibrate(self, sampling_rate: float, steps: int, rounds: int, share: float = 1.0) -> float:
        """Least noise multiplier (to 0.1 %) at which the rounds fit ``share`` of the limit.

        A round is ``steps`` steps and its price is rounded up, as the ledger does. Raises
        ``ConfigError`` when even a noise multiplier of 10,000 does not fit.
        """
        allowance = math.floor(self.limit * share) // rounds

        def fits(noise_multiplier: float) -> bool:
            price = steps * step_rdp(noise_multiplier, sampling_rate, self.order)
            return math.ceil(price * MICRO) <= allowance

        low, high = 0.05, 10_000.0
        if not fits(high):
            raise ConfigError(
                f"epsilon {self.epsilon:g} at delta {self.delta:g} is too small for {rounds} rounds"
                f" of {steps} steps at sampling rate {sampling_rate:g}: no noise multiplier up to"
                f" {high:g} fits"
            )
        while high / low > 1.001:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if fits(middle) else (middle, high)
        return math.ceil(high * 1e6) / 1e6
