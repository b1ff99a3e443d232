"""A coordinator's figures for Prometheus: of runs, nodes and models, none of learners."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloister_server.home import CoordinatorHome
from cloister_server.overview import NodeView, Overview, RunView, overview
from cloister_server.run_folder import Phase
from cloister_shared.kit import Standing


def metrics_of(home: CoordinatorHome) -> CollectorRegistry:
    """What :func:`prometheus_client.generate_latest` writes out; read from the files each time."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Coordinator(home))
    return registry


class _Coordinator(Collector):
    def __init__(self, home: CoordinatorHome) -> None:
        self._home = home

    def describe(self) -> Iterator[Metric]:
        """Nothing: names need not be known before they are read."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All figures at this moment."""
        found = overview(self._home)
        yield from _of_runs(found.runs)
        yield from _of_nodes(found.nodes)
        yield _of_models(found)


def _of_runs(runs: tuple[RunView, ...]) -> Iterator[Metric]:
    phase = GaugeMetricFamily(
        "cloister_run_phase", "1 for the phase that a run is in.", labels=("run", "phase")
    )
    for run in runs:
        for one in Phase:
            phase.add_metric((run.name, one.value), float(run.phase is one))
    yield phase
    yield _gauge("cloister_run_wanted", "1 if a run is to go on.", runs, lambda run: run.wanted)
    yield _gauge(
        "cloister_run_rounds_planned",
        "Rounds of a run.",
        runs,
        lambda run: run.checkpoint.plan.rounds,
    )
    yield _gauge(
        "cloister_run_epsilon",
        "ε that a run's rounds so far cost a learner who was in each, at the run's δ.",
        [run for run in runs if run.spent is not None],
        lambda run: run.spent or 0.0,
    )
    yield _counter(
        "cloister_run_rounds", "Rounds that were done.", runs, lambda run: run.checkpoint.round
    )
    yield _counter(
        "cloister_run_round_seconds",
        "Seconds that a run's rounds took.",
        runs,
        lambda run: sum(one.seconds for one in run.checkpoint.records),
    )
    yield _counter(
        "cloister_run_replies",
        "Contributions that counted.",
        runs,
        lambda run: sum(len(one.participants) for one in run.checkpoint.records),
    )
    yield _counter(
        "cloister_run_refusals", "Replies that did not count.", runs, lambda run: run.refusals
    )
    yield _counter("cloister_run_bytes_down", "Bytes to nodes.", runs, lambda run: run.bytes[0])
    yield _counter("cloister_run_bytes_up", "Bytes from nodes.", runs, lambda run: run.bytes[1])


def _of_nodes(nodes: tuple[NodeView, ...]) -> Iterator[Metric]:
    standing = GaugeMetricFamily("cloister_nodes", "Nodes by standing.", labels=("standing",))
    for one in Standing:
        count = sum(node.member.standing is one for node in nodes)
        standing.add_metric((one.value,), float(count))
    yield standing
    entries = GaugeMetricFamily(
        "cloister_node_ledger_entries",
        "Entries of a node's privacy ledger, as it was seen last.",
        labels=("node",),
    )
    restoring = GaugeMetricFamily(
        "cloister_node_restoring",
        "1 while a restored ledger waits for its receipt.",
        labels=("node",),
    )
    missing = GaugeMetricFamily(
        "cloister_node_models_missing",
        "Active models that a node has not stored.",
        labels=("node",),
    )
    for node in nodes:
        name = (node.member.name,)
        if node.entries is not None:
            entries.add_metric(name, float(node.entries))
        restoring.add_metric(name, float(node.restoring))
        missing.add_metric(name, float(len(node.missing)))
    yield from (entries, restoring, missing)


def _of_models(found: Overview) -> Metric:
    active = GaugeMetricFamily(
        "cloister_model_active",
        "1 for a model version that nodes are to serve.",
        labels=("model", "version", "run"),
    )
    for one in found.versions:
        manifest = one.manifest
        is_active = found.active.get(manifest.kind) == manifest.version
        active.add_metric((manifest.kind, manifest.version, manifest.run), float(is_active))
    return active


def _gauge(name: str, what: str, runs: Iterable[RunView], of: Callable[[RunView], float]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=("run",))
    for run in runs:
        family.add_metric((run.name,), float(of(run)))
    return family


def _counter(
    name: str, what: str, runs: Iterable[RunView], of: Callable[[RunView], float]
) -> Metric:
    family = CounterMetricFamily(name, what, labels=("run",))
    for run in runs:
        family.add_metric((run.name,), float(of(run)))
    return family
