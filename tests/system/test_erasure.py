"""An erased learner is in no file of the node: the keyed tombstone alone remains.

A marker stands in everything that a learner brings along; the node serves, trains and exports
before, during and after the erasure, and is copied and backed up afterwards.
"""

import base64
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from cloister_client import wishes
from cloister_client.app import node_from_home
from cloister_client.custody.backup import back_up
from cloister_client.custody.restore import restore
from cloister_client.histories import Interaction
from cloister_client.home import NodeHome
from cloister_client.node import Node
from cloister_client.serving import create_app
from cloister_client.store import Activity
from cloister_server.checkpoint import read_checkpoint
from cloister_shared.messages import Contribution, TrainRequest, join, pack, unpack
from cloister_shared.model_specs.dkt import DktSpec

from .consortium import CURRICULUM, make_home, make_run

MARKER = "Ottilie-Sentinel-7f3a"
LEARNER = f"{MARKER}@school.example"


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    """A school of which the marked learner is one of many, with a served model."""
    home = make_home(tmp_path / "oak")
    with home.store() as store:
        spec = DktSpec(skills=2, hidden=4)
        weights = spec.initial_weights(CURRICULUM, seed=1)
        version = store.add_model_version(spec, weights, "p" * 64, 1).version
        store.activate("dkt", version)
        for number in range(300):
            key = f"statement {number} of {MARKER}"
            store.append(LEARNER, Interaction(LEARNER, "1+1", True, float(number), key))
            store.append_activity(LEARNER, Activity(f"read {MARKER}", number, key, MARKER))
        store.save_state(store.pseudonym(LEARNER), version, 300, MARKER.encode() * 2000)
    return home


@pytest.fixture
def log(home: NodeHome) -> Iterator[Path]:
    """Everything that anybody logs, in a file in the home."""
    path, root = home.path / "node.log", logging.getLogger()
    handler, before = logging.FileHandler(path), root.level
    handler.addFilter(lambda record: record.name != "httpx")  # it is the LMS's, not the node's
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield path
    root.setLevel(before)
    root.removeHandler(handler)
    handler.close()


def forms(text: str) -> list[bytes]:
    """The ways in which a text may stand in a file."""
    raw = text.encode()
    shifted = [base64.b64encode(b" " * shift + raw)[4:-4] for shift in range(3)]
    if len(text) % 2 == 0 and set(text) <= set("0123456789abcdef"):
        shifted.append(bytes.fromhex(text))
    return [raw, text.encode("utf-16-le"), raw.hex().encode(), *shifted]


def files_with(folder: Path, text: str) -> set[str]:
    """Names of all files that hold ``text``; also in free pages, logs and whatever lies there."""
    wanted = forms(text)
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(form in path.read_bytes() for form in wanted)
    }


def train(node: Node, directory: Path, number: int) -> None:
    """One round, answered."""
    state = read_checkpoint(make_run(directory))
    request = TrainRequest(plan=state.plan, round=number)
    unpack(node.answer_train(pack(request, join(state.weights))), Contribution)


def test_a_marker_in_id_statement_and_state_is_found_in_no_file_after_an_erasure(
    home: NodeHome, log: Path, tmp_path: Path
) -> None:
    token = {"Authorization": f"Bearer {home.api_token()}"}
    node = node_from_home(home)
    with TestClient(create_app(home), headers=token) as client, home.store() as store:
        train(node, tmp_path, 1)
        assert client.get(f"/v1/learners/{LEARNER}/mastery").json()["answers"] == 300
        pseudonym, tombstone = store.pseudonym(LEARNER), store.tombstone(LEARNER)
        assert files_with(home.path, MARKER)
        assert files_with(home.path, pseudonym)
        with home.personal_chain() as chain:
            assert wishes.erase(chain, store, LEARNER)
        assert files_with(home.path, MARKER) == files_with(home.path, pseudonym) == set()
        train(node, tmp_path, 2)
        assert client.get(f"/v1/learners/{LEARNER}/mastery").json()["answers"] == 0
        late = Interaction(LEARNER, "1+1", True, 1e6, MARKER)
        assert not store.append(LEARNER, late)
        assert not store.append_activity(LEARNER, Activity(MARKER, 1e6, MARKER))
        train(node, tmp_path, 3)
    export = home.path / "export.json"
    export.write_text(node.ledger.export().model_dump_json())
    back_up(home, tmp_path / "later")
    restore(tmp_path / "later", tmp_path / "restored")
    copy = Path(shutil.copytree(home.path, tmp_path / "copy"))
    for folder in (home.path, copy, tmp_path / "restored"):
        assert log.stat().st_size
        assert files_with(folder, MARKER) == files_with(folder, pseudonym) == set()
        kept = files_with(folder, tombstone)
        assert {name.removesuffix("-wal") for name in kept} == {"ledger.sqlite", "store.sqlite"}


def test_what_is_searched_for_is_found_in_every_form(tmp_path: Path) -> None:
    for number, form in enumerate(forms(MARKER)):
        (tmp_path / str(number)).write_bytes(b"before" + form + b"after")
    encoded = base64.b64encode(b"a longer text around " + MARKER.encode() + b" and behind it")
    (tmp_path / "base64").write_bytes(encoded)
    assert len(files_with(tmp_path, MARKER)) == len(forms(MARKER)) + 1


def test_others_are_untouched_by_an_erasure(home: NodeHome) -> None:
    with home.store() as store:
        others = [one for one in store.learners("serve") if one != store.pseudonym(LEARNER)]
        before = [len(one) for one in store.load(others, "serve")]
        with home.personal_chain() as chain:
            wishes.erase(chain, store, LEARNER)
        assert list(store.learners("serve")) == others
        assert [len(one) for one in store.load(others, "serve")] == before
