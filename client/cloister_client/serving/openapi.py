"""The service's OpenAPI document, kept at ``client/openapi.json`` for those who build clients.

``python -m cloister_client.serving.openapi FILE`` writes it; a test compares the two.
"""

import json
import sys
from pathlib import Path

from cloister_client.serving.app import describe_app


def openapi_json() -> str:
    """The document as indented JSON, the same for the same code."""
    return json.dumps(describe_app().openapi(), indent=1) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(openapi_json(), encoding="utf-8")
