"""One thread for all tests: a second one slows products this small down, and fights for cores."""

import os

# Before anybody imports torch; processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
