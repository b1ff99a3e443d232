"""The cache of packed histories forgets before it fills the memory."""

import numpy as np

from cloister_client.histories import History
from cloister_client.store.histories import HistoryCache


def history(answers: int) -> History:
    return History(
        items=np.zeros(answers, np.int32),
        skills=np.zeros((answers, 1), np.int32),
        correct=np.zeros(answers, np.float32),
        when=np.zeros(answers),
    )


def test_the_least_recently_used_is_dropped_first() -> None:
    cache = HistoryCache(answers=10)
    cache.put(1, history(4))
    cache.put(2, history(4))
    assert cache.get(1, 4) is not None
    cache.put(3, history(4))
    assert [cache.get(number, 4) is not None for number in (1, 2, 3)] == [True, False, True]


def test_a_learner_with_new_answers_is_read_again() -> None:
    cache = HistoryCache()
    cache.put(1, history(4))
    assert cache.get(1, 5) is None


def test_replacing_a_history_frees_its_room() -> None:
    cache = HistoryCache(answers=10)
    for _ in range(5):
        cache.put(1, history(6))
    cache.put(2, history(4))
    assert cache.get(1, 6) is not None
    assert cache.get(2, 4) is not None


def test_a_history_longer_than_the_room_is_not_kept() -> None:
    cache = HistoryCache(answers=10)
    cache.put(1, history(11))
    assert cache.get(1, 11) is None
    cache.put(2, history(10))
    assert cache.get(2, 10) is not None
