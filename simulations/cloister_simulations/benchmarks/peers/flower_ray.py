"""Flower's Ray backend: a ServerApp with FedAvg, a ClientApp, one core each worker."""

import time
from collections.abc import Iterable

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    FedAvg,
    Strategy,
)
from flwr.simulation import run_simulation
from workload import Job, answer_job, client_data, make_module, train_client


def work(job: Job) -> list[float]:
    """When each round ended."""
    ends: list[float] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        initial = ArrayRecord(make_module(job).state_dict())
        _strategy(job, ends).start(grid, initial, num_rounds=job.rounds)

    run_simulation(
        server,
        _client_app(job),
        job.clients,
        backend_config={
            # Without the explicit share, two cores give Flower a single worker.
            "client_resources": {"num_cpus": 1, "num_gpus": 0},
            "init_args": {"num_cpus": job.processes, "include_dashboard": False},
        },
    )
    return ends


def _client_app(job: Job) -> ClientApp:
    app = ClientApp()

    @app.train(mods=[fixedclipping_mod] if job.noise else [])
    def train(message: Message, context: Context) -> Message:
        module = make_module(job)
        module.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
        data = client_data(job, int(context.node_config["partition-id"]))
        train_client(job, module, data)
        content = RecordDict(
            {
                "arrays": ArrayRecord(module.state_dict()),
                "metrics": MetricRecord({"num-examples": len(data[0])}),
            }
        )
        return Message(content, reply_to=message)

    return app


class NotingFedAvg(FedAvg):
    """Federated averaging that notes when each round's replies were averaged."""

    def __init__(self, ends: list[float], job: Job) -> None:
        super().__init__(
            fraction_train=job.cohort / job.clients,
            fraction_evaluate=0.0,
            min_train_nodes=job.cohort,
            min_available_nodes=job.clients,
        )
        self.ends = ends

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The mean, as ever."""
        result = super().aggregate_train(server_round, replies)
        self.ends.append(time.monotonic())
        return result


def _strategy(job: Job, ends: list[float]) -> Strategy:
    strategy = NotingFedAvg(ends, job)
    if not job.noise:
        return strategy
    return DifferentialPrivacyClientSideFixedClipping(strategy, job.noise, job.clip, job.cohort)


if __name__ == "__main__":
    answer_job(work, ["flwr", "ray", "torch", "numpy"])
