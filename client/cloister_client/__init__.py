"""The node: store, ledger, models, training, personalization and serving."""
