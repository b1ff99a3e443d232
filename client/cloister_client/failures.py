"""What is told of an exception that nobody expected: never its text, which may hold a record."""

import logging
import traceback
from pathlib import Path

from cloister_shared.errors import CloisterError

_LOG = logging.getLogger(__name__)


def log_failure(error: Exception) -> None:
    """Log what failed and where; the text only of errors that are known to hold no learner data."""
    text = str(error) if isinstance(error, CloisterError) else ""
    where = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("the node failed: %s %s\n%s", type(error).__name__, text, where)


def place_of(error: Exception) -> str:
    """File and line where it was raised, such as ``node.py:120``; one word, for a journal."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"
