"""``python -m cloister_shared``: the command ``cloister``, wherever its script was put."""

from cloister_shared.cli import main

main()
