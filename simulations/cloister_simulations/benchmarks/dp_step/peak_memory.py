"""Peak memory of a process, as Linux counts it (man 5 proc)."""

from pathlib import Path

_SELF = Path("/proc/self")


class PeakMemory:
    """What this process holds at most from now on, above what it holds now.

    Writing 5 to ``clear_refs`` sets the high-water mark (VmHWM) back to the resident set (VmRSS).
    ``getrusage`` would not do: its maximum can be that of the process which started this one.
    """

    def __init__(self) -> None:
        (_SELF / "clear_refs").write_text("5", encoding="ascii")
        self._before = _status("VmRSS")

    def bytes(self) -> int:
        """Bytes above those at the start."""
        return _status("VmHWM") - self._before


def _status(field: str) -> int:
    """Bytes of a field of ``status``, which is in kB."""
    lines = (_SELF / "status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith(f"{field}:")]
    return 1024 * int(line.split()[1])
