"""Kernels are built once, kept where only their user can write, and never a condition."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from cloister_client.kernels import loader
from cloister_client.kernels.loader import SWITCH, kernels
from cloister_client.training import train_round

from ...client.training.checks import flat_delta, make_case
from ..learners import ConstantNoise, made_up_history

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CC", "cc")) is None, reason="no compiler here"
)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    """A cache of this test's own, and no memory of what was loaded before or after it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels.cache_clear()
    yield
    kernels.cache_clear()


@needs_compiler
def test_the_library_is_compiled_once(tmp_path, monkeypatch):
    assert kernels() is not None
    (kept,) = Path(tmp_path, "cloister", "kernels").iterdir()
    before = kept.stat().st_mtime_ns
    kernels.cache_clear()
    assert kernels() is not None
    assert kept.stat().st_mtime_ns == before


@needs_compiler
def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(SWITCH, "off")
    assert kernels() is None


def test_without_a_compiler_there_is_none(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert kernels() is None


@needs_compiler
def test_a_compiler_that_fails_costs_speed_and_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(loader, "_FLAGS", ("-no-such-flag",))
    assert kernels() is None
    assert "training is slower" in caplog.text


@needs_compiler
def test_a_cache_that_others_can_write_is_not_trusted(tmp_path, caplog):
    folder = Path(tmp_path, "cloister", "kernels")
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert kernels() is None
    assert "can be written by others" in caplog.text


@needs_compiler
def test_a_round_without_kernels_is_the_same_round(monkeypatch):
    case = make_case()
    histories = [made_up_history(length, length) for length in (1, 5, 12, 30)]
    with_kernels = flat_delta(train_round, case, histories, ConstantNoise())
    kernels.cache_clear()
    monkeypatch.setenv(SWITCH, "off")
    without = flat_delta(train_round, case, histories, ConstantNoise())
    np.testing.assert_allclose(with_kernels, without, atol=1e-5 * np.abs(without).max())
