"""Simulations: data set readers, partitions, the in-process backend, baselines, reports."""
