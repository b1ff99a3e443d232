"""Where practice pays: the predicted success at which exercises are offered, and words for it.

Math Garden, which adapted arithmetic practice for tens of thousands of pupils, aims at a success
rate of .75 (Klinkenberg, Straatemeier, van der Maas, "Computer adaptive practice of Maths
ability", Computers & Education 57, 2011) and lets pupils choose between .60 and .90 (Jansen et
al., Learning and Individual Differences 24, 2013). We aim at the same rate within those limits.
"""

from cloister_client.personalization.results import Level

TARGET = 0.75
LOWER, UPPER = 0.60, 0.90


def level(probability: float) -> Level:
    """A skill's level in a word: below, within or above the zone."""
    if probability < LOWER:
        return "not yet"
    return "learning" if probability < UPPER else "secure"
