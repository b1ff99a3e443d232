"""What the service answers over HTTP, and what it refuses."""

import logging
import sqlite3
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloister_client.ledger import Wish
from cloister_client.serving.access import MAX_BODY_BYTES
from cloister_shared.model_specs.dkt import DktSpec

NOON = "2026-03-02T12:00:00+01:00"


def answer(item: str = "add/1", correct: bool = True, when: str = NOON, key: str = "k") -> dict:
    return {"item": item, "correct": correct, "when": when, "key": key}


def test_an_answer_is_stored_once_and_shows_in_the_mastery(client):
    first = client.post("/v1/learners/ada/interactions", json=answer())
    again = client.post("/v1/learners/ada/interactions", json=answer())
    assert (first.status_code, first.json()["stored"]) == (201, True)
    assert (again.status_code, again.json()["stored"]) == (200, False)
    assert first.json()["skills"] == again.json()["skills"]
    mastery = client.get("/v1/learners/ada/mastery").json()
    assert mastery["answers"] == 1
    assert mastery["skills"][0] == first.json()["skills"][0]
    assert mastery["skills"][0]["reason"] == "one answer, right"
    assert mastery["skills"][1]["reason"] == "no answers yet, judged by 1 to other skills"


def test_next_and_recommendations_bring_as_many_items_as_asked(client):
    client.post("/v1/learners/ada/interactions", json=answer())
    exercises = client.get("/v1/learners/ada/next", params={"count": 2}).json()
    assert len(exercises["items"]) == 2
    assert {"item", "title", "text", "format", "skills", "success", "reason"} == set(
        exercises["items"][0]
    )
    recommended = client.get("/v1/learners/ada/recommendations").json()["items"]
    assert {one["item"] for one in recommended} == {"add/2", "frac/1", "frac/2"}


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    learner=st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffd"),
        min_size=1,
        max_size=60,
    ).filter(lambda learner: learner not in (".", ".."))  # clients drop dot segments (RFC 3986)
)
def test_learner_ids_of_any_characters_are_told_apart(client, learner: str):
    address = f"/v1/learners/{quote(learner, safe='')}"
    before = client.get(f"{address}/mastery").json()["answers"]
    assert client.post(f"{address}/interactions", json=answer(key=str(before))).status_code == 201
    assert client.get(f"{address}/mastery").json()["answers"] == before + 1


@pytest.mark.parametrize("learner", ["a/b", "a%2Fb"])
def test_a_slash_in_a_learner_id_may_come_encoded_or_not(client, learner: str):
    client.post("/v1/learners/a%2Fb/interactions", json=answer())
    assert client.get(f"/v1/learners/{learner}/mastery").json()["answers"] == 1


def test_a_learner_id_that_ends_like_an_address_is_still_an_id(client):
    client.post("/v1/learners/x%2Fmastery/interactions", json=answer())
    assert client.get("/v1/learners/x%2Fmastery/mastery").json()["answers"] == 1
    assert client.get("/v1/learners/x/mastery").json()["answers"] == 0


@pytest.mark.parametrize("learner", ["%FF", "%00", "a%1Fb", "a" * 256])
def test_a_learner_id_that_could_be_mistaken_is_refused(client, learner: str):
    response = client.get(f"/v1/learners/{learner}/mastery")
    assert response.status_code == 422
    assert response.json()["detail"].startswith("learner: String should")


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "Basic abc", "Bearer \xe9"])
@pytest.mark.parametrize("address", ["mastery", "next", "recommendations", "interactions"])
def test_nothing_about_a_learner_is_told_without_the_token(client, header, address: str):
    client.headers.pop("Authorization")
    headers = {"Authorization": header.encode("latin-1")} if header else {}
    method = "POST" if address == "interactions" else "GET"
    response = client.request(method, f"/v1/learners/ada/{address}", headers=headers, json=answer())
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "API token" in response.json()["detail"]


def test_health_names_the_model_versions_without_a_token(client, trained_home):
    client.headers.pop("Authorization")
    with trained_home.store() as store:
        versions = {kind: store.active_model(kind).version for kind in ("dkt", "recommender")}
    assert client.get("/v1/health").json() == {"models": versions}


def test_without_a_model_the_service_says_so_and_keeps_answers(client_of, home):
    client = client_of(home)
    assert client.get("/v1/health").json() == {"models": {"dkt": None, "recommender": None}}
    for address in ("mastery", "next", "recommendations"):
        response = client.get(f"/v1/learners/ada/{address}")
        assert response.status_code == 503
        assert response.json()["detail"].startswith("this node has no active")
    stored = client.post("/v1/learners/ada/interactions", json=answer())
    assert stored.json() == {"stored": True, "skills": []}


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"item": "add/9"}, "item 'add/9' is not in the curriculum 'sums'"),
        ({"correct": "yes"}, "correct: Input should be a valid boolean"),
        ({"when": "2026-03-02T12:00:00"}, "when: Input should have timezone info"),
        ({"key": ""}, "key: String should have at least 1 character"),
        ({"score": 3}, "score: Extra inputs are not permitted"),
    ],
)
def test_a_bad_answer_is_refused_in_one_sentence_and_not_kept(client, change, detail):
    response = client.post("/v1/learners/ada/interactions", json=answer() | change)
    assert (response.status_code, response.json()) == (422, {"detail": detail})
    assert client.get("/v1/learners/ada/mastery").json()["answers"] == 0


@pytest.mark.parametrize("count", ["0", "51", "many"])
def test_a_count_out_of_range_is_refused(client, count: str):
    response = client.get("/v1/learners/ada/next", params={"count": count})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("count: Input should be")


def test_a_body_without_end_is_refused(client):
    endless = (b" " * 1024 for _ in range(MAX_BODY_BYTES // 1024 + 1))
    response = client.post("/v1/learners/ada/interactions", content=endless)
    assert response.status_code == 413
    assert "at most 65536 bytes" in response.json()["detail"]


def test_answers_that_arrive_late_count_where_they_belong(client):
    answers = [
        answer(item, correct, when=f"2026-03-02T12:0{minute}:00Z")
        for minute, (item, correct) in enumerate(
            [("add/1", True), ("frac/1", False), ("add/2", False)]
        )
    ]
    for one in answers:
        client.post("/v1/learners/in-order/interactions", json=one)
    for one in reversed(answers):
        client.post("/v1/learners/reversed/interactions", json=one)
    in_order = client.get("/v1/learners/in-order/mastery").json()
    assert client.get("/v1/learners/reversed/mastery").json() == in_order


def test_a_newly_active_version_answers_at_once(client, trained_home):
    client.post("/v1/learners/ada/interactions", json=answer())
    before = client.get("/v1/learners/ada/mastery").json()
    spec = DktSpec(skills=2, hidden=5)
    with trained_home.store() as store:
        weights = spec.initial_weights(trained_home.curriculum, seed=8)
        version = store.add_model_version(spec, weights, plan_digest="p" * 64, round_number=2)
        store.activate("dkt", version.version)
    after = client.get("/v1/learners/ada/mastery").json()
    assert (after["model"], after["answers"]) == (version.version, 1)
    assert after["skills"][0]["probability"] != before["skills"][0]["probability"]


def test_an_erased_learner_is_served_as_a_beginner_and_stays_erased(client, trained_home):
    client.post("/v1/learners/ada/interactions", json=answer())
    with trained_home.store() as store:
        store.follow({store.tombstone("ada"): Wish(erased=True)})
    assert client.get("/v1/learners/ada/mastery").json()["answers"] == 0
    assert client.post("/v1/learners/ada/interactions", json=answer()).json()["stored"] is False


def test_a_store_that_fails_is_a_503_that_tells_nothing(client, trained_home, caplog):
    with trained_home.store() as store:
        pseudonym = store.pseudonym("ada")
    with sqlite3.connect(trained_home.path / "store.sqlite") as database:
        database.execute("ALTER TABLE learners RENAME TO elsewhere")
    response = client.get("/v1/learners/ada/mastery")
    assert response.status_code == 503
    assert "send the same request again" in response.json()["detail"]
    assert [record.getMessage() for record in caplog.records if record.name != "httpx"] == [
        "the store failed: OperationalError"
    ]
    assert pseudonym not in response.text + caplog.text


def test_nothing_that_is_logged_names_a_learner(client, caplog):
    with caplog.at_level(logging.DEBUG, logger="cloister_client"):
        client.post("/v1/learners/ada-lovelace/interactions", json=answer())
        client.post("/v1/learners/ada-lovelace/interactions", json=answer(item="none"))
        client.get("/v1/learners/ada-lovelace/next")
    assert not [record for record in caplog.records if record.name.startswith("cloister")]
