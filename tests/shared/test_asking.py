"""Questions are asked of a person, and of nobody else."""

import io
import os
import sys

import pytest

from cloister_shared.asking import ask_fingerprint
from cloister_shared.errors import PolicyError


def test_what_was_given_is_not_asked_for() -> None:
    assert ask_fingerprint("0a1b", "the coordinator") == "0a1b"


def test_a_person_types_what_was_read_to_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    person, terminal = os.openpty()
    with open(terminal) as stdin, open(person, "wb", buffering=0) as keyboard:
        monkeypatch.setattr(sys, "stdin", stdin)
        keyboard.write(b"0a1b 2c3d\n")
        assert ask_fingerprint(None, "the coordinator") == "0a1b 2c3d"
    assert "Fingerprint of the coordinator" in capsys.readouterr().err


def test_a_script_is_told_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("0a1b\n"))
    with pytest.raises(PolicyError, match=r"must be compared: .* give it with --fingerprint"):
        ask_fingerprint(None, "the coordinator")
