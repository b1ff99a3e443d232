"""The guarantee of a simulation in plain words."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cloister_simulations.report import wording
from cloister_simulations.result import SimulationResult


@dataclass(frozen=True)
class Promise:
    """A headline and the sentences below it; ``holds`` is false where nothing is promised."""

    holds: bool
    headline: str
    sentences: tuple[str, ...]


def promise(result: SimulationResult) -> Promise:
    """What the federated arm promises a learner, and what it does not."""
    if result.guarantee.kind == "none":
        return _none(result)
    return _learner_level(result)


def _learner_level(result: SimulationResult) -> Promise:
    guarantee = result.guarantee
    epsilon, delta = wording.limit(guarantee.epsilon_limit), wording.limit(guarantee.delta)
    factor = "" if guarantee.epsilon_limit is None else _factor(guarantee.epsilon_limit)
    return Promise(
        True,
        f"Learner-level differential privacy: ε ≤ {epsilon} at δ = {delta}",
        (
            "Whoever sees everything that the institutions sent, and knows every learner but one, "
            "can hardly tell whether that one took part: their odds change by a factor of at most "
            f"e^ε{factor}, except with a probability of about δ.",
            f"The unit is one learner's whole history. {_most_spent(result)}",
            _sentence(guarantee.reason),
            f"It covers the federated arm and nothing else here{_further(result)}. What was "
            "learned by trying settings on the same data is not included in ε.",
        ),
    )


def _further(result: SimulationResult) -> str:
    """What else with noise spends: further experiments on the same learners."""
    others = [arm.name for arm in result.arms if arm.private and arm.name != "federated"]
    names = [wording.label(name) for name in [*others, *result.private_baselines]]
    if not names:
        return ""
    return f": {', '.join(names)} spent a budget of their own each, which adds to it"


def _none(result: SimulationResult) -> Promise:
    return Promise(
        False,
        "No privacy guarantee",
        (
            _sentence(result.guarantee.reason),
            "Nothing here promises a learner anything. Any ε below is what the plan's steps would "
            "be charged with secret noise, and is shown for comparison only.",
        ),
    )


def _most_spent(result: SimulationResult) -> str:
    spends = [spend for node in result.nodes for spend in node.spend]
    if not spends:
        return "Nothing was spent."
    rdp = _largest(spend.epsilon_rdp for spend in spends)
    pld = _largest(spend.epsilon_pld for spend in spends)
    return (
        f"No learner has spent more than ε = {rdp} by Rényi accounting, on which the promise rests "
        f"({pld} by PLD accounting, valid for plans fixed in advance)."
    )


def _largest(epsilons: Iterable[float | None]) -> str:
    return wording.epsilon(max(math.inf if one is None else one for one in epsilons))


def _factor(epsilon: float) -> str:
    return f" (here {math.exp(epsilon):.3g})"


def _sentence(text: str) -> str:
    """``text`` with a capital and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "."
