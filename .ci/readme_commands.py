"""Runs the commands of a README's ``bash`` blocks in order, each block as one script.

A block after the comment ``<!-- not in CI -->`` is skipped; so is ``make test``, which CI runs
on its own.
"""

import re
import subprocess
import sys
from pathlib import Path

BLOCK = re.compile(r"(<!-- not in CI -->\n)?```bash\n(.*?)```", re.DOTALL)
ON_ITS_OWN = "make test\n"


def main(path: str) -> int:
    """Run the blocks of the file at ``path``; the exit code of the first that fails, or 0."""
    for skipped, script in BLOCK.findall(Path(path).read_text("utf-8")):
        commands = script.replace(ON_ITS_OWN, "")
        if skipped or not commands.strip():
            continue
        print(f"+ {commands.strip()}", flush=True)
        # The commands are the README's own.
        script_run = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], check=False)  # noqa: S603, S607
        code = script_run.returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
