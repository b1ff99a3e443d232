"""A node's side of a consortium: its link to the coordinator, its loop, and the trainer."""
