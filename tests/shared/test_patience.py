"""What passes is asked again, what does not is raised at once."""

from collections.abc import Callable

import pytest

from cloister_shared.patience import FIRST_S, LONGEST_S, patiently


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = iter([error] * times)

    def ask() -> str:
        for one in left:
            raise one
        return "answer"

    return ask


def passes(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


def test_a_lost_connection_is_asked_again_after_growing_pauses() -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    assert patiently(failing(9, ConnectionError()), passes, pause) == "answer"
    assert len(pauses) == 9
    assert FIRST_S / 2 <= pauses[0] <= FIRST_S
    assert all(LONGEST_S / 2 <= one <= LONGEST_S for one in pauses[-3:])


def test_an_error_that_does_not_pass_is_raised_at_once() -> None:
    with pytest.raises(KeyError):
        patiently(failing(1, KeyError()), passes, lambda seconds: pytest.fail("waited"))


def test_who_gives_up_gets_the_error() -> None:
    with pytest.raises(ConnectionError):
        patiently(failing(1, ConnectionError()), passes, lambda seconds: True)
