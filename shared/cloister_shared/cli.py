"""The one command, ``cloister``: sub-commands come from the packages that are installed."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import typer
from rich.console import Console

from cloister_shared import __version__
from cloister_shared.errors import INTERRUPTED_EXIT_CODE, MEANINGS, CloisterError, ConfigError
from cloister_shared.registry import Registry

Commands = Registry[typer.Typer | Callable[..., None]]
COMMANDS: Commands = Registry("cloister.commands")
AUDITS: Commands = Registry("cloister.audits")
"""What is below ``cloister audit``: packages bring their own."""

EXIT_CODES = " · ".join(f"{code} {meaning}" for code, meaning in MEANINGS.items())
EXTRAS = (
    "install the extra that has it: pip install '.[server]' for a coordinator, '.[client]' for a "
    "node, '.[simulations]' for everything else, such as poc and demo"
)


def build_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """The command with every contributed sub-command, or with the one that ``arguments`` ask for.

    What is not asked for is not imported, some of it takes seconds; a word that is no sub-command's
    name, and a call for help, are answered with all of them.
    """
    first, second, *_ = [*(word for word in arguments if not word.startswith("-")), "", ""]
    app = typer.Typer(
        help=f"Cloister {__version__}. Exit codes: {EXIT_CODES} (run again to resume).",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,  # they may hold learner records and keys
    )
    app.callback()(_cloister)  # with it, a single function is a sub-command all the same
    if first not in COMMANDS:
        audit = typer.Typer(help="Check what a node says of itself.", no_args_is_help=True)
        audit.callback()(_audit)
        _add_all(audit, AUDITS, second, "audit ")
        app.add_typer(audit, name="audit")
    if first != "audit":
        _add_all(app, COMMANDS, first)
    return app


def _cloister() -> None:
    """Federated learning for education, with a privacy budget at every node."""


def _audit() -> None:
    """Check what a node says of itself."""


def _add_all(app: typer.Typer, commands: Commands, asked: str, above: str = "") -> None:
    for name in [asked] if asked in commands else commands:
        _add(app, commands, name, above)


def _add(app: typer.Typer, commands: Commands, name: str, above: str) -> None:
    """Add the sub-command, or one that says which package it lacks, whatever it was asked."""
    try:
        command = commands.get(name)
    except ModuleNotFoundError as error:
        anything = {"allow_extra_args": True, "ignore_unknown_options": True}
        app.command(name, context_settings=anything)(_unavailable(above + name, error.name))
        return
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _unavailable(name: str, missing: str | None) -> Callable[[], None]:
    def unavailable() -> None:
        raise ConfigError(
            f"`cloister {name}` needs the package {missing}, which is not installed; " + EXTRAS
        )

    return unavailable


def main() -> None:
    """Run a sub-command; a known error ends with one sentence and its documented exit code."""
    _keep_loopback_direct()
    # A privacy product phones nobody; Flower reads these when it is imported.
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    # Read when torch is imported: OpenMP's threads must not spin beside those of our kernels.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        build_app(sys.argv[1:])(standalone_mode=True)
    except CloisterError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cloister_"):
            raise
        _fail(f"the package {error.name} is not installed; {EXTRAS}", ConfigError.exit_code)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED_EXIT_CODE:
            raise
        _fail("interrupted; run the same command again to resume", INTERRUPTED_EXIT_CODE)


def _keep_loopback_direct() -> None:
    """No proxy of the machine's hears what its own processes say, secrets least of all."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = ",".join(filter(None, (given, "127.0.0.1", "localhost")))


def _fail(sentence: str, exit_code: int) -> NoReturn:
    Console(stderr=True).print(f"cloister: {sentence}", style="red", markup=False, soft_wrap=True)
    sys.exit(exit_code)
