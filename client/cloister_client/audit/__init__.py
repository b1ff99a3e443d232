"""What a node can be checked by from inside: canaries in the real training."""
