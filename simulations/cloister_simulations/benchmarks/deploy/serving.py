"""How long a node's service takes to answer, while its trainer rests and while it trains."""

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

import httpx

from cloister_client.home import NodeHome
from cloister_client.up_commands import SERVE, tree_of
from cloister_shared.curriculum import Curriculum
from cloister_shared.model_specs.dkt import DktSpec
from cloister_shared.plan import Plan
from cloister_simulations.benchmarks.deploy.consortium import (
    SIZE,
    consortium,
    first_state,
    make_plan,
)
from cloister_simulations.benchmarks.skills import curriculum_of

SCHOOL = "oak"
SKILLS, HIDDEN = 100, 200
ROUNDS = 30
SHARE = 0.5
"""Of the learners that each round trains on: as many as a policy allows unless told otherwise."""
_PAUSE_S, _WITHIN_S = 0.02, 600.0

Question = Callable[[], httpx.Response]


def answer_times(resting: int, rounds: int = ROUNDS) -> tuple[list[float], list[float]]:
    """Seconds of ``resting`` answers with no run, and of all that are given during ``rounds``.

    The coordinator is on the same machine.
    """
    curriculum, spec = curriculum_of(SKILLS), DktSpec(skills=SKILLS, hidden=HIDDEN)
    plan = make_plan(
        "busy", curriculum, spec, 2 * rounds, (SCHOOL,), compression="int8", sampling_rate=SHARE
    )
    state = first_state(plan, curriculum)
    with (
        tempfile.TemporaryDirectory() as folder,
        consortium(Path(folder), curriculum, ()) as running,
        ThreadPoolExecutor(1) as aside,
    ):
        path = Path(folder) / SCHOOL
        running.enrol(path, curriculum, lambda home: _let_serve(home, plan, curriculum))
        with _client(path) as client:
            questions = _questions(client, curriculum)
            before = [_time(next(questions)) for _ in range(resting)]
            training = aside.submit(running.rounds, state, rounds, _WITHIN_S)
            during = []
            while not training.done():
                during.append(_time(next(questions)))
            training.result()
    return before, during


def _let_serve(home: NodeHome, plan: Plan, curriculum: Curriculum) -> None:
    """Have the node serve the run's first weights, as if they were released."""
    spec = plan.models[0].spec
    weights = spec.initial_weights(curriculum, 1)
    with home.store() as store:
        kept = store.add_model_version(spec, weights, plan.digest, 1)
        store.activate(spec.kind, kept.version)


def _client(path: Path) -> httpx.Client:
    address = tree_of(path).processes()[SERVE].address
    token = NodeHome.open(path).api_token()
    return httpx.Client(base_url=f"{address}", headers={"authorization": f"Bearer {token}"})


def _questions(client: httpx.Client, curriculum: Curriculum) -> Iterator[Question]:
    """What an LMS asks about one learner after the other: mastery, an answer kept, what next."""
    for number in count():
        learner = f"/v1/learners/learner%20{number % SIZE}"
        item = curriculum.items[number % len(curriculum.items)].id
        answer = {
            "item": item,
            "correct": number % 2 == 0,
            "when": f"2026-01-01T00:00:00.{number:06}Z",
            "key": f"asked {number}",
        }
        yield partial(client.get, f"{learner}/mastery")
        yield partial(client.post, f"{learner}/interactions", json=answer)
        yield partial(client.get, f"{learner}/next")


def _time(question: Question) -> float:
    """Seconds until the answer, after a pause; ``HTTPStatusError`` for one that is none."""
    time.sleep(_PAUSE_S)
    began = time.perf_counter()
    question().raise_for_status()
    return time.perf_counter() - began
