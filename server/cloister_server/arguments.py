"""What all ``cloister coordinator`` commands are told."""

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The coordinator's folder.")]
"""What stands before everything else."""
Node = Annotated[str, typer.Argument(metavar="NAME", help="The node's name.")]
