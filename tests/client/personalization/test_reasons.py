"""The sentences a teacher reads, word for word."""

import pytest

from cloister_client.personalization.reasons import mastery_reason, practice_reason
from cloister_client.personalization.zone import level

RIGHT, WRONG = True, False


@pytest.mark.parametrize(
    ("answers", "others", "reason"),
    [
        ([], 0, "no answers yet"),
        ([], 12, "no answers yet, judged by 12 to other skills"),
        ([RIGHT], 0, "one answer, right"),
        ([WRONG], 0, "one answer, wrong"),
        ([RIGHT] * 4, 0, "all 4 answers right"),
        ([WRONG] * 2, 0, "all 2 answers wrong"),
        ([RIGHT, WRONG], 0, "1 of 2 answers right"),
        (
            [RIGHT] * 4 + [WRONG] * 2 + [RIGHT] * 3,
            0,
            "7 of 9 answers right, the last three in a row",
        ),
        ([RIGHT] * 3 + [WRONG] * 2, 0, "3 of 5 answers right, the last two wrong"),
        ([WRONG] + [RIGHT] * 12, 0, "12 of 13 answers right, the last 12 in a row"),
    ],
)
def test_mastery_is_explained_by_the_answers(answers, others, reason):
    assert mastery_reason(answers, others) == reason


@pytest.mark.parametrize(
    ("success", "answers", "just_answered", "reason"),
    [
        (0.724, 3, False, "72 % likely right: demanding, but within reach"),
        (0.95, 3, False, "95 % likely right: easy by now, keeps it fresh"),
        (0.3, 3, False, "30 % likely right: hard for now, expect to need help"),
        (
            0.7,
            0,
            False,
            "no answers yet, beginners are 70 % likely right: demanding, but within reach",
        ),
        (
            0.7,
            3,
            True,
            "70 % likely right: demanding, but within reach, "
            "and just answered: nothing else is left",
        ),
    ],
)
def test_an_exercise_is_explained_by_its_difficulty(success, answers, just_answered, reason):
    assert practice_reason(success, answers, just_answered) == reason


@pytest.mark.parametrize(
    ("probability", "word"),
    [(0.0, "not yet"), (0.59, "not yet"), (0.6, "learning"), (0.9, "secure"), (1.0, "secure")],
)
def test_levels_are_below_within_and_above_the_zone(probability: float, word: str):
    assert level(probability) == word
