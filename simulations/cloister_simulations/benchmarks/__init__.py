"""Benchmarks: ratios of interleaved runs on one machine, never timed tests."""
