"""A proof of concept: a whole consortium on one machine, made and run as a real one is."""
