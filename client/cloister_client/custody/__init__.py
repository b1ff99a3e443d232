"""A node in one file and back: backups, and what a restored node may do."""
