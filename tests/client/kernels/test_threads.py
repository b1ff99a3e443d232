"""Parts of work are each done once, by whichever thread is free."""

import threading

import pytest

from cloister_client.kernels.threads import share_out


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_part_is_done_once(threads):
    done: list[int] = []
    share_out(done.append, range(50), threads)
    assert sorted(done) == list(range(50))


@pytest.mark.parametrize("threads", [1, 3])
def test_what_a_part_raises_is_raised_when_nobody_works_any_more(threads):
    working = threading.Semaphore(0)

    def work(part: int) -> None:
        working.release()
        if part == 3:
            raise MemoryError("part 3")
        working.acquire()

    with pytest.raises(MemoryError, match="part 3"):
        share_out(work, range(10), threads)
    assert working.acquire(blocking=False)
    assert not working.acquire(blocking=False)
