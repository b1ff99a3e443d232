"""Differentially private training of one node's share of a round: no network, store or ledger."""

from cloister_client.training.round import TrainingResult, train_round

__all__ = ["TrainingResult", "train_round"]
