"""Questions that a command asks the person in front of it."""

import sys
from typing import Annotated

import typer

from cloister_shared.errors import PolicyError

Fingerprint = Annotated[
    str | None, typer.Option(help="What the other side read to you; without it you are asked.")
]
"""The option of commands that trust keys."""


def ask_fingerprint(given: str | None, whose: str) -> str:
    """The fingerprint that was ``given``, or that the person types in.

    It is never shown first: then nobody would compare. ``PolicyError`` if there is nobody to ask.
    """
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise PolicyError(
            f"the fingerprint of {whose} must be compared: get it by telephone or on paper, not "
            "from where the keys came from, and give it with --fingerprint",
            "fingerprint",
        )
    question = f"Fingerprint of {whose}, as the other side reads it to you"
    typed: str = typer.prompt(question, err=True)
    return typed
