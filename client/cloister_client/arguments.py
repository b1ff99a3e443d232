"""What all ``cloister node`` commands are told."""

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The node's folder.")]
