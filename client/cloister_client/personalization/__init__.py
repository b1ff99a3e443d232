"""Local personalization: mastery, next exercises, recommendations, each with its reason."""

from cloister_client.personalization.core import Personalization

__all__ = ["Personalization"]
