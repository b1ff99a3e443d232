"""The compiled kernels, built once on the machine that runs them; None where that cannot be.

A wheel cannot know a machine's vector instructions, and not every machine has a compiler. So the
source travels, is compiled at first use, and is kept under a name that holds everything it depends
on. Without a compiler, or with ``CLOISTER_KERNELS=off``, training runs in PyTorch alone.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path

import torch

SWITCH = "CLOISTER_KERNELS"
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fPIC", "-shared")
_SOURCES = (
    "vectors.h",
    "client_tables.h",
    "client_steps.h",
    "lstm.c",
    "tables.c",
    "clients.c",
)
_LOG = logging.getLogger(__name__)

_Pointer, _Count = ctypes.c_void_p, ctypes.c_int64
_FUNCTIONS: dict[str, tuple[list[type], type | None]] = {
    "cloister_lanes": ([], _Count),
    "cloister_block": ([], _Count),
    "cloister_packed_size": ([_Count] * 2, _Count),
    "cloister_pack": ([_Pointer, *[_Count] * 4, _Pointer], None),
    "cloister_forward": ([*[_Pointer] * 3, *[_Count] * 2], _Count),
    "cloister_backward": ([*[_Pointer] * 3, *[_Count] * 4], _Count),
    "cloister_gradient_size": ([_Count] * 2, _Count),
    "cloister_clipped_sum": (
        [*[_Pointer] * 2, *[_Count] * 2, *[ctypes.c_float] * 2, *[_Pointer] * 2],
        _Count,
    ),
    "cloister_untile": ([_Pointer, *[_Count] * 2, _Pointer], None),
    "cloister_run_norms": ([_Pointer, *[_Count] * 2, _Pointer], _Count),
    "cloister_train_clients": ([_Pointer, *[_Count] * 2, _Pointer], _Count),
    "cloister_add_runs": ([_Pointer, *[_Count] * 2, *[_Pointer] * 3], _Count),
}


@cache
def kernels() -> ctypes.CDLL | None:
    """The library, compiled if it has not been; None where it is off or cannot be built."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if os.environ.get(SWITCH, "on") == "off" or compiler is None:
        return None
    try:
        library = ctypes.CDLL(str(_compiled(compiler, _sources())))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        _LOG.warning("kernels could not be built, training is slower without them: %s", error)
        return None
    for name, (arguments, result) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library


def loaded() -> ctypes.CDLL:
    """The library, which must be there; ``RuntimeError`` if it is not."""
    library = kernels()
    if library is None:
        raise RuntimeError("there are no compiled kernels on this machine")
    return library


def check(failed: int) -> None:
    """Raise ``MemoryError`` if a kernel says so."""
    if failed:
        raise MemoryError("no memory for a block of rows")


def available(dtype: torch.dtype) -> bool:
    """Whether there are compiled kernels for numbers of ``dtype``: float32 only."""
    return dtype == torch.float32 and kernels() is not None


def _sources() -> dict[str, bytes]:
    folder = resources.files(__package__)
    return {name: folder.joinpath(name).read_bytes() for name in _SOURCES}


def _compiled(compiler: str, sources: dict[str, bytes]) -> Path:
    """The shared object of ``sources`` for this machine; built where it is not yet kept."""
    kept = _folder() / f"kernels-{_fingerprint(compiler, sources)}.so"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=kept.parent) as work:
            for name, source in sources.items():
                Path(work, name).write_bytes(source)
            made = Path(work, "kernels.so")
            code = [str(Path(work, name)) for name in sources if name.endswith(".c")]
            command = [compiler, *_FLAGS, "-o", str(made), *code, "-lm"]
            # The compiler is the administrator's choice, its arguments are ours.
            subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603
            made.replace(kept)
    return kept


def _folder() -> Path:
    """A folder of this user's; code is loaded from it, so nobody else may write there."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(caches, "cloister", "kernels")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = folder.stat()
    if state.st_uid != os.getuid() or state.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by others")
    return folder


def _fingerprint(compiler: str, sources: dict[str, bytes]) -> str:
    version = subprocess.run(  # noqa: S603
        [compiler, "--version"], check=True, capture_output=True, timeout=20
    )
    parts = (*sources.values(), " ".join(_FLAGS).encode(), version.stdout, _processor().encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


def _processor() -> str:
    """What ``-march=native`` looks at."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    wanted = ("flags", "Features", "model name", "cpu family", "model\t")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))
