"""Compiled kernels of the training engine, and how they are built and loaded."""

from cloister_client.kernels.library import SWITCH, kernels

__all__ = ["SWITCH", "kernels"]
