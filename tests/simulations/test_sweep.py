"""Sweeps: every ε and seed once, finished runs are kept, the figures are those of the runs."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest

from cloister_shared.errors import ConfigError
from cloister_simulations.config import SimulationConfig
from cloister_simulations.progress import Silent
from cloister_simulations.sweep import RESULT, run_sweep, summarize, variants

MakeConfig = Callable[..., SimulationConfig]
ARMS = ["pooled", "pooled_private"]


def test_what_has_no_noise_runs_once_a_seed(make_config: MakeConfig) -> None:
    planned = variants(make_config(arms=ARMS, baselines=True), [1, 4], [5, 6])
    assert [(one.epsilon, one.config.seed) for one in planned] == [
        (epsilon, seed) for seed in (5, 6) for epsilon in (None, 1, 4)
    ]
    for one in planned:
        assert one.config.arms == (("pooled",) if one.epsilon is None else ("pooled_private",))
        assert one.config.baselines == (one.epsilon is None)
    assert len({one.folder for one in planned}) == len(planned)


def test_each_epsilon_has_its_budget_and_its_learning_rate(make_config: MakeConfig) -> None:
    planned = variants(make_config(), [1, 4], [1], [0.01, 0.03])
    for one, rate in zip(planned, [0.01, 0.03], strict=True):
        assert one.config.privacy.budget.epsilon == one.epsilon
        assert one.config.models[0].private.server.learning_rate == rate
        assert one.config.models[0].non_private == make_config().models[0].non_private


@pytest.mark.parametrize(("epsilons", "rates"), [([1, 4], [0.1]), ([1], [0.1, 0.2]), ([], [])])
def test_what_cannot_be_swept_is_refused(
    make_config: MakeConfig, epsilons: list[float], rates: list[float]
) -> None:
    with pytest.raises(ConfigError, match="epsilon"):
        variants(make_config(), epsilons, [1], rates)


def test_finished_simulations_are_kept_and_summed_up(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(arms=ARMS)
    planned = variants(config, [8], [1, 2])
    done = run_sweep(planned, tmp_path, Silent(), "first")
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = run_sweep(planned, tmp_path, Silent(), "second")
    assert again == done
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times
    assert len(list(tmp_path.glob(f"*/{RESULT}"))) == len(planned) == 4
    summary = summarize(config, done, "second")
    assert summary.seeds == (1, 2)
    line = next(one for one in summary.lines if (one.name, one.metric) == ("pooled", "auc"))
    found = [result.arms[0].final["dkt"].all["auc"] for one, result in done if one.epsilon is None]
    assert list(line.values.values()) == found
    assert line.mean == pytest.approx(fmean(line.values.values()))
    assert line.deviation == pytest.approx(abs(found[0] - found[1]) / 2**0.5)


def test_changed_settings_are_not_taken_for_the_kept_ones(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    run_sweep(variants(make_config(), [8], [1]), tmp_path, Silent(), "first")
    with pytest.raises(ConfigError, match="other settings"):
        run_sweep(variants(make_config(), [8], [1], [0.2]), tmp_path, Silent(), "second")
