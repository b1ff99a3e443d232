"""Thirty topics of school mathematics and small exercises on them, for synthetic curricula."""

from dataclasses import dataclass

import numpy as np

from cloister_shared.curriculum import Item, Skill


@dataclass(frozen=True, slots=True)
class Topic:
    """A skill of the synthetic catalogue; ``exercise`` is filled with :func:`_numbers`."""

    id: str
    name: str
    exercise: str
    prerequisites: tuple[str, ...] = ()

    def skill(self) -> Skill:
        """The topic as a skill of a curriculum."""
        return Skill(id=self.id, name=self.name, prerequisites=self.prerequisites)

    def items(self, count: int) -> list[Item]:
        """``count`` different exercises with growing numbers, the same ones every time."""
        random = np.random.default_rng(list(self.id.encode()))
        texts: list[str] = []
        while len(texts) < count:
            text = self.exercise.format(**_numbers(random, len(texts)))
            if text not in texts:
                texts.append(text)
        return [
            Item(
                id=f"{self.id}-{number}",
                skills=(self.id,),
                title=f"{self.name} {number}",
                text=text,
            )
            for number, text in enumerate(texts, start=1)
        ]


def _numbers(random: np.random.Generator, size: int) -> dict[str, int]:
    """Numbers by name that make an exercise come out even; larger for a larger ``size``.

    ``p/q`` and ``s/t`` are proper fractions; ``percent`` of ``whole`` is a whole number.
    """
    a, b, c = random.integers(2, 10 + size, 3)
    x = random.integers(2, 8 + size)
    m, n = random.integers(12, 80 + 20 * size, 2)
    q, t = random.choice(np.arange(3, 11 + size), 2, replace=False)
    drawn = {
        "a": a,
        "b": b,
        "c": c,
        "x": x,
        "m": m,
        "n": n,
        "q": q,
        "t": t,
        "p": random.integers(1, q),
        "s": random.integers(1, t),
        "digit": random.integers(1, 10),
        "ax": a * x,
        "ab": a * b,
        "ac": a * c,
        "bc": b * c,
        "cq": c * q,
        "m_and_n": m + n,
        "x_and_b": x + b,
        "ax_and_b": a * x + b,
        "percent": 5 * random.integers(1, 20),
        "whole": 20 * random.integers(1, 6 + size),
    }
    return {name: int(number) for name, number in drawn.items()}


TOPICS: tuple[Topic, ...] = (
    Topic("whole-addition", "Adding whole numbers", "Work out {m} + {n}."),
    Topic(
        "whole-subtraction",
        "Subtracting whole numbers",
        "Work out {m_and_n} − {n}.",
        ("whole-addition",),
    ),
    Topic("multiplication", "Multiplying", "Work out {a} × {x}.", ("whole-addition",)),
    Topic("division", "Dividing", "Work out {ax} ÷ {a}.", ("multiplication",)),
    Topic(
        "order-of-operations",
        "Order of operations",
        "Work out {a} + {b} × {c}.",
        ("whole-addition", "multiplication"),
    ),
    Topic(
        "common-multiples",
        "Common multiples",
        "What is the least common multiple of {a} and {x}?",
        ("multiplication",),
    ),
    Topic("rounding", "Rounding", "Round {m} to the nearest ten."),
    Topic(
        "equivalent-fractions",
        "Equivalent fractions",
        "Which number is missing in {p}/{q} = ?/{cq}?",
        ("division", "common-multiples"),
    ),
    Topic(
        "comparing-fractions",
        "Comparing fractions",
        "Which is larger, {p}/{q} or {s}/{t}, or are they equal?",
        ("equivalent-fractions",),
    ),
    Topic(
        "adding-fractions",
        "Adding fractions",
        "Work out {p}/{q} + {s}/{t}.",
        ("equivalent-fractions",),
    ),
    Topic(
        "multiplying-fractions",
        "Multiplying fractions",
        "Work out {p}/{q} × {s}/{t}.",
        ("multiplication", "equivalent-fractions"),
    ),
    Topic(
        "dividing-fractions",
        "Dividing fractions",
        "Work out {p}/{q} ÷ {s}/{t}.",
        ("multiplying-fractions",),
    ),
    Topic(
        "decimal-place-value",
        "Place value in decimals",
        "Write {m} hundredths as a decimal number.",
        ("rounding",),
    ),
    Topic(
        "adding-decimals",
        "Adding decimals",
        "Work out {a}.{digit} + {m}.5.",
        ("whole-addition", "decimal-place-value"),
    ),
    Topic(
        "multiplying-decimals",
        "Multiplying decimals",
        "Work out {a}.{digit} × {x}.",
        ("multiplication", "decimal-place-value"),
    ),
    Topic(
        "percents-as-fractions",
        "Percents as fractions",
        "Write {n}% as a fraction in lowest terms.",
        ("equivalent-fractions", "decimal-place-value"),
    ),
    Topic(
        "percent-of-a-number",
        "Percent of a number",
        "What is {percent}% of {whole}?",
        ("percents-as-fractions", "multiplying-decimals"),
    ),
    Topic(
        "discounts",
        "Discounts",
        "A coat costs {whole} dollars. What does it cost with {percent}% off?",
        ("percent-of-a-number", "whole-subtraction"),
    ),
    Topic("ratios", "Ratios", "Write the ratio {ac} : {bc} in lowest terms.", ("division",)),
    Topic(
        "proportions",
        "Proportions",
        "{a} pencils cost {ab} cents. What do {c} pencils cost?",
        ("ratios", "multiplication"),
    ),
    Topic(
        "adding-negatives",
        "Adding negative numbers",
        "Work out {a} + (−{m}).",
        ("whole-subtraction",),
    ),
    Topic(
        "multiplying-negatives",
        "Multiplying negative numbers",
        "Work out (−{a}) × {x}.",
        ("multiplication", "adding-negatives"),
    ),
    Topic("powers", "Powers", "Work out {a}² + {b}.", ("order-of-operations",)),
    Topic(
        "substitution",
        "Evaluating expressions",
        "What is {a}x + {b} for x = {x}?",
        ("order-of-operations",),
    ),
    Topic("like-terms", "Like terms", "Simplify {a}x + {b} + {c}x.", ("substitution",)),
    Topic(
        "distributive-law",
        "Distributive law",
        "Write {a}(x + {b}) without brackets.",
        ("like-terms",),
    ),
    Topic(
        "one-step-equations",
        "One-step equations",
        "Solve x + {b} = {x_and_b}.",
        ("whole-subtraction", "substitution"),
    ),
    Topic(
        "two-step-equations",
        "Two-step equations",
        "Solve {a}x + {b} = {ax_and_b}.",
        ("one-step-equations", "division"),
    ),
    Topic(
        "inequalities",
        "Inequalities",
        "For which x is {a}x + {b} < {ax_and_b}?",
        ("two-step-equations", "multiplying-negatives"),
    ),
    Topic(
        "linear-patterns",
        "Linear patterns",
        "A pattern starts at {b} and grows by {a} each step. Where is it after {x} steps?",
        ("substitution",),
    ),
)
"""In the order in which they are taught; a topic's prerequisites stand before it."""
