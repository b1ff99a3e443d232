"""A flood of refusals is told of in few lines, which say how many they stand for."""

import logging

from cloister_server.seldom import TELLINGS, WINDOW_S, Seldom, SeldomLogged


def test_a_flood_is_told_of_in_few_lines_with_its_size() -> None:
    now = [0.0]
    lines: list[tuple[str, str, int]] = []
    heard = Seldom(lambda *line: lines.append(line), lambda: now[0])
    for _ in range(1000):
        heard("crowd", "192.0.2.1")
    assert lines == [("crowd", "192.0.2.1", 1)] * TELLINGS
    now[0] = WINDOW_S
    heard("crowd", "192.0.2.2")
    assert lines[-1] == ("crowd", "192.0.2.2", 1000 - TELLINGS + 1)


def test_a_flood_of_one_kind_does_not_hide_another() -> None:
    lines: list[tuple[str, str, int]] = []
    heard = Seldom(lambda *line: lines.append(line))
    for _ in range(1000):
        heard("crowd", "192.0.2.1")
    heard("unknown", "192.0.2.2")
    assert lines[-1] == ("unknown", "192.0.2.2", 1)


def test_a_logger_that_peers_make_complain_prints_little() -> None:
    quiet = SeldomLogged()
    record = logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, "form", None, None)
    assert sum(quiet.filter(record) for _ in range(1000)) == TELLINGS
