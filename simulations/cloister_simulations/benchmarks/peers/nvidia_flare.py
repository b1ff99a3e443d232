"""NVFlare's simulator: its FedAvg recipe, one process for every client of the cohort.

With fewer processes than clients the simulator starts a new one for every task, seconds each, so
the cohort is ``processes`` clients, the same in every round.
"""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe.sim_env import SimEnv
from workload import Job, answer_job, make_module

HERE = Path(__file__).parent


def work(job: Job) -> list[float]:
    """When each round ended, as its first client saw it."""
    if job.noise or job.cohort != job.processes:
        raise ValueError("NVFlare runs without noise and with one process a client")
    # The clients' processes import the workload, too.
    os.environ["PYTHONPATH"] = str(HERE)
    with tempfile.TemporaryDirectory() as directory:
        description, starts = Path(directory, "job.json"), Path(directory, "starts")
        description.write_text(json.dumps(asdict(job)))
        recipe = FedAvgRecipe(
            name="benchmark",
            model=make_module(job),
            min_clients=job.cohort,
            # A round has ended when the next one begins.
            num_rounds=job.rounds + 1,
            train_script=str(HERE / "nvidia_flare_client.py"),
            train_args=f"{description} {starts}",
        )
        environment = SimEnv(
            num_clients=job.cohort, num_threads=job.processes, workspace_root=directory
        )
        recipe.execute(environment)
        return [float(line) for line in starts.read_text().split()][1:]


if __name__ == "__main__":
    answer_job(work, ["nvflare", "torch", "numpy"])
