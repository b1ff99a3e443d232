"""The coordinator: rounds, validating aggregation, server optimizers, checkpoints."""
