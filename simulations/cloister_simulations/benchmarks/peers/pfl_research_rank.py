"""One process of pfl-research: federated averaging by its simulated backend."""

import time
from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from pfl.privacy import CentrallyAppliedPrivacyMechanism, GaussianMechanism
from workload import Job, answer_job, client_data, make_module


class RoundEnds(TrainingProcessCallback):
    """Notes when each round ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Never ask to stop."""
        self.ends.append(time.monotonic())
        return False, Metrics()


def work(job: Job) -> list[float]:
    """When each round ended."""
    rounds = RoundEnds()
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=job.rounds,
            # Round 0 evaluates, and is the one that is not timed.
            evaluation_frequency=job.rounds,
            train_cohort_size=job.cohort,
            val_cohort_size=None,
        ),
        backend=_backend(job),
        model=_model(job),
        model_train_params=NNTrainHyperParams(
            local_batch_size=job.batch,
            local_num_epochs=job.epochs,
            local_learning_rate=job.learning_rate,
        ),
        callbacks=[rounds],
        send_metrics_to_platform=False,
    )
    return rounds.ends


def _backend(job: Job) -> SimulatedBackend:
    """All clients in memory, with central noise if the job has any."""
    datasets: list[Any] = [
        PyTorchTensorDataset(client_data(job, client), user_id=str(client))
        for client in range(job.clients)
    ]
    sampler = get_user_sampler("minimize_reuse", range(job.clients))
    data = FederatedDataset(datasets.__getitem__, sampler)
    noise = CentrallyAppliedPrivacyMechanism(GaussianMechanism(job.clip, job.noise))
    return SimulatedBackend(
        training_data=data, val_data=data, postprocessors=[noise] if job.noise else []
    )


def _model(job: Job) -> PyTorchModel:
    module = make_module(job)
    # pfl asks for it, and it is not timed.
    module.metrics = lambda *_: {}
    return PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))


if __name__ == "__main__":
    answer_job(work, ["pfl", "torch", "numpy"])
