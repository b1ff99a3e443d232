"""Pseudonyms and roles are keyed, stable, and told apart by their use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister_client.store import Pseudonymizer
from cloister_shared.errors import ConfigError

KEYS = Pseudonymizer(b"p" * 32, b"r" * 32, evaluation_share=0.2)


@given(st.text(), st.text())
def test_pseudonyms_are_equal_only_for_equal_ids(one: str, other: str) -> None:
    assert (KEYS.pseudonym(one) == KEYS.pseudonym(other)) == (one == other)
    assert len(KEYS.pseudonym(one)) == 32


def test_an_id_that_is_not_proper_unicode_has_a_pseudonym() -> None:
    assert KEYS.pseudonym("\ud800") != KEYS.pseudonym("?")


def test_another_key_gives_other_pseudonyms_and_another_check_value() -> None:
    other = Pseudonymizer(b"q" * 32, b"r" * 32, evaluation_share=0.2)
    assert other.pseudonym("ada") != KEYS.pseudonym("ada")
    assert other.check_value != KEYS.check_value


def test_the_evaluation_role_has_about_its_share() -> None:
    roles = [KEYS.role(KEYS.pseudonym(str(number))) for number in range(4000)]
    assert 0.17 < roles.count("evaluation") / 4000 < 0.23


def test_roles_depend_on_the_role_key_alone() -> None:
    other = Pseudonymizer(b"q" * 32, b"r" * 32, evaluation_share=0.2)
    names = [format(number, "032x") for number in range(100)]
    assert [other.role(name) for name in names] == [KEYS.role(name) for name in names]


def test_no_share_means_no_evaluation_learner() -> None:
    keys = Pseudonymizer(b"p" * 32, b"r" * 32, evaluation_share=0)
    assert {keys.role(format(number, "032x")) for number in range(200)} == {"train"}


def test_a_growing_share_moves_learners_one_way_only() -> None:
    names = [format(number, "032x") for number in range(300)]
    evaluated = [
        {name for name in names if Pseudonymizer(b"p" * 32, b"r" * 32, share).role(name) != "train"}
        for share in (0.1, 0.3, 0.9)
    ]
    assert evaluated[0] < evaluated[1] < evaluated[2]


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="the role key has 16 bytes, expected 32"):
        Pseudonymizer(b"p" * 32, b"r" * 16, evaluation_share=0.2)
