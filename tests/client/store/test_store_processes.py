"""Real processes that make and open one store at the same moment.

A nursery imports the store once and forks the others, which share nothing but the file.
"""

import subprocess
import sys
from pathlib import Path

from cloister_client.store import Pseudonymizer, Store
from cloister_shared.curriculum import Curriculum

AT_ONCE = 4

NURSERY = """
import os, sys
from pathlib import Path
from cloister_client.store.database import Database

folder, times, at_once = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for number in range(times):
    gate, opener = os.pipe()
    children = []
    for _ in range(at_once):
        if child := os.fork():
            children.append(child)
            continue
        os.close(opener)
        os.read(gate, 1)
        database = Database(f"sqlite:///{folder / str(number)}")
        try:
            with database.WITH as connection:
                connection.exec_driver_sql("SELECT * FROM sqlite_master")
            database.close()
        except Exception as error:
            os.write(1, f"{error}\\n".encode())
            os._exit(1)
        os._exit(0)
    os.close(opener)
    os.close(gate)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    if failed:
        sys.exit(1)
"""


def _race(folder: Path, opening: str, times: int) -> None:
    script = NURSERY.replace("WITH", opening)
    arguments = [str(folder), str(times), str(AT_ONCE)]
    command = [sys.executable, "-c", script, *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (found.returncode, found.stdout) == (0, ""), found.stderr


def test_many_who_open_a_fresh_file_at_once_all_get_in(tmp_path: Path) -> None:
    _race(tmp_path, "read()", times=50)


def test_many_who_make_a_store_at_once_make_one(
    tmp_path: Path, curriculum: Curriculum, keys: Pseudonymizer
) -> None:
    _race(tmp_path, "prepare(str)", times=5)
    with Store.open(f"sqlite:///{tmp_path / '0'}", curriculum, keys) as store:
        assert store.counts().learners == 0
