"""The operator's page and metrics: what they show, and to whom."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from tests.server.conftest import CURRICULUM, key_of
from tests.server.members import member
from tests.server.test_orders import DOCUMENT
from tests.server.test_run_commands import do_round, output, printed

from cloister_server.config import CoordinatorConfig
from cloister_server.console.app import create_app
from cloister_server.delivery import Deliveries, publish
from cloister_server.home import NOTARY, CoordinatorHome
from cloister_server.orders import RunOrder, place
from cloister_server.run_folder import Phase, RunFolder, Wanted

HOST = "http://127.0.0.1"


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorHome:
    config = CoordinatorConfig(consortium="north-schools", address="localhost")
    home = CoordinatorHome.create(tmp_path / "home", config, CURRICULUM)
    for name in ("oak", "elm"):
        home.directory().add(member(name).model_copy(update={"signing_key": key_of(name).public}))
    home.directory().approve("oak")
    return home


@pytest.fixture
def client(home: CoordinatorHome) -> TestClient:
    return TestClient(create_app(home), base_url=HOST)


def order(home: CoordinatorHome, run: str) -> RunFolder:
    return place(home, RunOrder.model_validate({**DOCUMENT, "run": run}))


@pytest.fixture
def busy(home: CoordinatorHome) -> CoordinatorHome:
    """One run finished, one in its second round, one that waits; oak was restored from a backup."""
    finished = order(home, "spring")
    do_round(finished, finish=True)
    publish(home, finished, finished.state())
    running = order(home, "summer")
    do_round(running)
    order(home, "autumn")
    last = {"length": 41, "digest": "b" * 64}
    known = {"key": key_of("oak").public, "ledger": "f" * 32, "nonce": "a" * 64, "last": last}
    (home.path / NOTARY).write_text(json.dumps({"nodes": {"oak": known}}))
    return home


def test_an_empty_consortium_has_a_page_that_says_what_to_do(client: TestClient) -> None:
    page = client.get("/").text
    assert "north-schools" in page
    assert "cloister coordinator run start" in page


def test_the_status_page_shows_rounds_refusals_and_epsilon(busy, client: TestClient) -> None:
    page = " ".join(client.get("/").text.split())
    assert "queued, 1 before it" in page
    assert ">running</span>" in page
    assert "1 of 5" in page
    assert "elm: refused: budget" in page
    spent, planned = page.split("summer</th>")[1].split('<td class="n">')[2:4]
    assert 0 < float(spent.split("<")[0]) < float(planned.split("<")[0]) <= 4.0


def test_the_status_page_shows_ledgers_restores_and_who_waits_for_models(
    busy, client: TestClient
) -> None:
    page = " ".join(client.get("/").text.split())
    oak = page.split("oak</th>")[1].split("</tr>")[0]
    assert "restored: waits for its receipt" in oak
    assert ">41<" in oak
    assert "waits for dkt" in oak
    active = busy.models().active()
    Deliveries(busy).note("oak", {"dkt": active.models["dkt"]}, "policy")
    assert "refused dkt: policy" in client.get("/").text


def test_the_status_page_shows_where_models_come_from(busy, client: TestClient) -> None:
    (version,) = busy.models().versions()
    page = " ".join(client.get("/").text.split())
    row = page.split(version.manifest.version[:12])[1].split("</tr>")[0]
    assert "active" in row
    assert "spring" in row
    assert "public weights" in row


def test_what_a_peer_wrote_is_shown_as_text(home, client: TestClient) -> None:
    folder = order(home, "spring")
    folder.want(Wanted.STOPPED)
    folder.tell(Phase.FAILED, "<script>alert(1)</script>")
    page = client.get("/").text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_metrics_parse_as_prometheus(busy, client: TestClient) -> None:
    families = {
        one.name: one for one in text_string_to_metric_families(client.get("/metrics").text)
    }
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert found["cloister_run_rounds_total", "summer"] == 1
    assert found["cloister_run_refusals_total", "summer"] == 1
    assert found["cloister_run_phase", "running", "summer"] == 1
    assert found["cloister_nodes", "approved"] == 1
    assert found["cloister_nodes", "pending"] == 1
    assert found["cloister_node_ledger_entries", "oak"] == 41
    assert found["cloister_node_restoring", "oak"] == 1
    assert found["cloister_node_models_missing", "oak"] == 1
    assert 0 < found["cloister_run_epsilon", "summer"] < 4
    assert families["cloister_model_active"].samples[0].value == 1


@pytest.mark.parametrize("path", ["/", "/metrics", "/style.css"])
def test_nothing_can_be_changed_by_the_page(client: TestClient, path: str) -> None:
    for method in ("post", "put", "patch", "delete"):
        assert getattr(client, method)(path).status_code == 405
    answer = client.get(path)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/keys/ca.key", "/../keys/ca.key"])
def test_nothing_else_is_answered(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_page_elsewhere_cannot_read_it_by_a_name_of_its_own(client: TestClient) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_a_broken_file_is_named_and_the_page_goes_on(busy, client: TestClient) -> None:
    good = (busy.runs / "summer" / "status.json").read_bytes()
    (busy.runs / "summer" / "status.json").write_text("perhaps")
    answer = client.get("/")
    assert answer.status_code == 500
    assert "status.json cannot be read" in answer.text
    (busy.runs / "summer" / "status.json").write_bytes(good)
    assert client.get("/").status_code == 200


def test_nodes_list_shows_ledgers_and_restores(busy) -> None:
    nodes = {one["name"]: one for one in output("nodes", "list", busy.path)["nodes"]}
    oak, elm = nodes["oak"], nodes["elm"]
    assert (oak["ledger_entries"], oak["waits_for_a_receipt"]) == (41, True)
    assert (elm["ledger_entries"], elm["waits_for_a_receipt"]) == (None, False)
    assert (oak["models_missing"], elm["models_missing"]) == (["dkt"], [])
    assert "oak was restored from a backup" in " ".join(printed("nodes", "list", busy.path).split())
