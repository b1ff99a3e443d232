"""The OpenAPI document that clients are built from."""

from pathlib import Path

from cloister_client.serving.openapi import openapi_json

DOCUMENT = Path(__file__).parents[3] / "client" / "openapi.json"


def test_the_openapi_document_is_up_to_date():
    assert DOCUMENT.read_text(encoding="utf-8") == openapi_json(), (
        f"run: python -m cloister_client.serving.openapi {DOCUMENT}"
    )
