"""HTTP around local personalization; this process imports neither torch, opacus nor sklearn."""

from cloister_client.serving.app import create_app
from cloister_client.serving.server import serve

__all__ = ["create_app", "serve"]
