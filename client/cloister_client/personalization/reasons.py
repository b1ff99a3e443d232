"""Why the node says what it says, in one line that a teacher or a learner reads."""

from collections.abc import Sequence

from cloister_client.personalization.zone import LOWER, UPPER

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def percent(probability: float) -> str:
    """``0.82`` as "82 %"."""
    return f"{round(100 * probability)} %"


def mastery_reason(answers: Sequence[bool], others: int) -> str:
    """What a skill's probability rests on: its own answers, in order, or ``others`` to others."""
    count, right = len(answers), sum(answers)
    if not count:
        return f"no answers yet, judged by {others} to other skills" if others else "no answers yet"
    if count == 1:
        return f"one answer, {'right' if right else 'wrong'}"
    if right == count:
        return f"all {count} answers right"
    if not right:
        return f"all {count} answers wrong"
    return f"{right} of {count} answers right{_streak(answers)}"


def practice_reason(success: float, answers: int, just_answered: bool) -> str:
    """Why an exercise of this predicted success is offered now."""
    chance = f"{percent(success)} likely right"
    if not answers:
        chance = f"no answers yet, beginners are {chance}"
    if success < LOWER:
        verdict = "hard for now, expect to need help"
    elif success > UPPER:
        verdict = "easy by now, keeps it fresh"
    else:
        verdict = "demanding, but within reach"
    again = ", and just answered: nothing else is left" if just_answered else ""
    return f"{chance}: {verdict}{again}"


def follows_reason(title: str, is_latest: bool) -> str:
    """The recommender ranks an item by one that the learner worked on."""
    when = "which you did last" if is_latest else "which you did lately"
    return f"often follows '{title}', {when}"


def builds_on_reason(skill: str, probability: float) -> str:
    """The learner knows what an item builds on."""
    return f"you know '{skill}' ({percent(probability)}), which it builds on"


def popular_reason(answers: int) -> str:
    """The recommender ranks an item by how many learners work on it."""
    popular = "many learners work on it"
    return popular if answers else f"no answers yet: {popular}"


def _streak(answers: Sequence[bool]) -> str:
    """``, the last three in a row``, or how many were missed at the end; "" for a single one."""
    last = answers[-1]
    length = next(n for n, answer in enumerate(reversed(answers)) if answer != last)
    if length < 2:
        return ""
    number = _NUMBERS[length] if length < len(_NUMBERS) else str(length)
    return f", the last {number} in a row" if last else f", the last {number} wrong"
