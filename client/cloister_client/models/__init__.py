"""Model kinds: the torch side of the specs. Not to be imported by the serving process."""

from cloister_client.models.base import MODEL_KINDS, Batch, ModelKind, Scores, model_kind

__all__ = ["MODEL_KINDS", "Batch", "ModelKind", "Scores", "model_kind"]
