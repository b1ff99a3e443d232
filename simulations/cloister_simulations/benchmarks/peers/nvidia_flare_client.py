"""What NVFlare runs at every client; ``nvidia_flare`` starts it."""

import json
import sys
import time
from pathlib import Path

import nvflare.client as flare
from workload import Job, client_data, make_module, train_client


def main(description: Path, starts: Path) -> None:
    """Train whenever asked; the first client notes when each round began."""
    job = Job(**json.loads(description.read_text()))
    flare.init()
    client = int(flare.get_site_name().removeprefix("site-"))
    while flare.is_running():
        received = flare.receive()
        if client == 1:
            with starts.open("a") as stream:
                stream.write(f"{time.monotonic()}\n")
        module = make_module(job)
        module.load_state_dict(received.params)
        data = client_data(job, client)
        train_client(job, module, data)
        flare.send(
            flare.FLModel(
                params=module.state_dict(), meta={"NUM_STEPS_CURRENT_ROUND": len(data[0])}
            )
        )


main(*map(Path, sys.argv[1:]))
