"""The service as a process of its own: it listens, answers, holds no torch, and ends cleanly."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from cloister_client.home import NodeHome
from cloister_client.serving import serve
from cloister_shared.errors import ServiceError

SERVE_AND_LIST_MODULES = """
import json, pathlib, sys
from cloister_client.home import NodeHome
from cloister_client.serving import serve
try:
    home = NodeHome.open(pathlib.Path(sys.argv[1]))
    serve(home, home.config.serving.host, port=0)
finally:
    print(json.dumps(sorted(sys.modules)))
"""
ANSWER = {"item": "add/1", "correct": True, "when": "2026-03-02T12:00:00Z", "key": "k"}


@pytest.fixture
def process(trained_home: NodeHome) -> Iterator[subprocess.Popen]:
    """The service of a trained home on a free port of loopback."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE_AND_LIST_MODULES, str(trained_home.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def address(process: subprocess.Popen) -> str:
    """Where the process listens, as it says itself."""
    return process.stdout.readline().removeprefix("Listening on ").strip()


def test_the_process_answers_without_torch_names_no_learner_and_ends_with_0(
    process, address, trained_home
):
    token = {"Authorization": f"Bearer {trained_home.api_token()}"}
    learner = "/v1/learners/ada%2Flovelace"
    with httpx.Client(base_url=address, headers=token, trust_env=False) as client:
        assert client.post(f"{learner}/interactions", json=ANSWER).status_code == 201
        assert client.get(f"{learner}/mastery").json()["answers"] == 1
        assert client.get(f"{learner}/next").status_code == 200
        assert client.get(f"{learner}/recommendations").status_code == 200
        assert client.get("/v1/learners/ada%0Alovelace/mastery").status_code == 404
        process.send_signal(signal.SIGTERM)
        output, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "lovelace" not in log
    loaded = {module.partition(".")[0] for module in json.loads(output)}
    assert "cloister_client" in loaded
    assert loaded.isdisjoint({"torch", "opacus", "sklearn", "flwr"})


def test_a_request_under_way_at_sigterm_is_still_answered(process, address, trained_home):
    body = json.dumps(ANSWER).encode()
    head = (
        "POST /v1/learners/ada/interactions HTTP/1.1\r\nHost: node\r\n"
        f"Authorization: Bearer {trained_home.api_token()}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode() + body[:10])
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(body[10:])
        assert connection.recv(1024).startswith(b"HTTP/1.1 201 Created")
    assert process.wait(timeout=20) == 0
    with trained_home.store() as store:
        assert store.counts().interactions == 1


def test_a_port_that_is_taken_is_refused_in_one_sentence(trained_home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"cannot listen on 127.0.0.1, port {port}"):
            serve(trained_home, "127.0.0.1", port)
