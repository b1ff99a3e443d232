"""Compiled kernels of the training engine, and how they are built and loaded."""
