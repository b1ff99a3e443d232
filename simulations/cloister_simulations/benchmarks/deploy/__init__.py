"""A deployed consortium: rounds of real processes, bytes, accuracy under compression, memory."""
