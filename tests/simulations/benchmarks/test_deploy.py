"""The benchmark of a deployment: what needs no processes; the rest is in tests/system/deploy."""

from typer.testing import CliRunner

from cloister_shared.errors import ConfigError
from cloister_simulations.benchmarks.commands import app
from cloister_simulations.benchmarks.deploy.compression import bytes_over_float32


def test_with_all_headers_a_node_sends_and_gets_less_than_a_third_of_float32() -> None:
    shares = bytes_over_float32()
    assert shares.keys() == {"down", "up"}
    assert all(0.25 < share <= 0.3 for share in shares.values())


def test_a_part_that_is_not_known_is_told_before_anything_is_measured() -> None:
    outcome = CliRunner().invoke(app, ["deploy", "--part", "latency"])
    assert isinstance(outcome.exception, ConfigError)
    assert "known: compression, warm, stock, memory, serving" in str(outcome.exception)
