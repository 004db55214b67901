"""The ``pocketface`` command: its own subcommands, those of other packages, and the place where errors become exit
codes.

0 ok.  1 a gate failed.  2 bad input.  3 the environment.  130 interrupted.  141 the reader of a pipe went away.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from pocketface.sdk import commands
from pocketface.sdk.doctor.command import doctor
from pocketface.sdk.errors import EnvironmentProblemError, MissingExtraError, PocketfaceError, UnknownNameError
from pocketface.sdk.files import os_problem
from pocketface.sdk.models_command import MODELS_EXAMPLE, models
from pocketface.sdk.signing_command import sign

GROUP = "pocketface.commands"
DEBUG = "--debug"

# Which extra brings what the commands of a package import.
_EXTRAS = {"benchmarks": "bench", "converters": "compress", "compression": "compress"}

_FATAL_ERRNOS = (28, 30, 122)  # ENOSPC, EROFS, EDQUOT: wherever they surface, they are the machine's


class CommandGroup(TyperGroup):
    """Finds subcommands in the entry points ``pocketface.commands``; turns errors into one line and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Own commands first, then the others by name."""
        own = list(self.commands)
        return own + sorted(name for name in _points() if name not in own)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the module of a subcommand when it is asked for."""
        own = super().get_command(ctx, cmd_name)
        point = _points().get(cmd_name)
        return own if own is not None or point is None else _loaded(point)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Refuse an unknown name with all the names there are, not only the own ones."""
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            raise UnknownNameError("command", args[0], known, next="See pocketface --help")
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run; with ``standalone_mode``, always ends in ``SystemExit`` with one of the exit codes.

        ``--debug``, anywhere on the line, shows the traceback of an error and of its causes before its one line.
        """
        given = list(sys.argv[1:] if args is None else args)
        debug = DEBUG in given
        given = [word for word in given if word != DEBUG]
        extra = {"obj": {"debug": debug}, **extra}  # for commands that have more to show

        def plain() -> Any:
            return super(CommandGroup, self).main(given, prog_name, complete_var, False, windows_expand_args, **extra)

        if not standalone_mode:
            return plain()
        try:
            result = plain()
            sys.stdout.flush()
        except PocketfaceError as error:
            if debug:
                traceback.print_exception(error)
            _end(error.exit_code, str(error))
        except (KeyboardInterrupt, typer.Abort):
            result = 130
        except BrokenPipeError:
            _end_pipe()
        except SystemExit as error:
            if isinstance(error.__context__, BrokenPipeError):  # typer has its own way with these
                _end_pipe()
            raise
        except OSError as error:
            if error.errno not in _FATAL_ERRNOS:
                raise
            _end(EnvironmentProblemError.exit_code, str(os_problem(error, error.filename or "the disk")))
        except Exception as error:
            _end_usage(error)
        # Without standalone mode, a command that ends by typer.Exit hands its code back as the result; so does Ctrl-C.
        if result == 130:
            _end(130, "interrupted")
        sys.exit(result if isinstance(result, int) else 0)


def _give_up_output() -> None:
    """Python flushes standard output once more when it exits: where that cannot work, it must not complain again."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_pipe() -> NoReturn:
    _give_up_output()
    sys.exit(141)


def _end_usage(error: Exception) -> NoReturn:
    """End with typer's usage error on one line; raise the rest. Where its class lives depends on the version."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
        sys.exit(2)
    if not (hasattr(error, "format_message") and hasattr(error, "exit_code")):
        raise error
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "pocketface"
    _end(error.exit_code, f"{error.format_message().rstrip('.')}. Try {command} --help")


def _end(code: int, message: str) -> NoReturn:
    _give_up_output()
    line = " ".join(message.split())
    print(f"pocketface: {line}", file=sys.stderr)
    sys.exit(code)


def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _loaded(point: EntryPoint) -> Any:
    """The command behind an entry point, or one that says what is missing when it is run."""
    try:
        function = point.load()
    except ImportError as error:
        return _missing(point, error)
    if isinstance(function, typer.Typer):
        return typer.main.get_command(function)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name=point.name, epilog=getattr(function, "epilog", None))(function)
    return typer.main.get_command(single)


def _missing(point: EntryPoint, cause: ImportError) -> Any:
    module = cause.name or ""
    package = point.module.split(".")[1] if point.module.startswith("pocketface.") else ""
    ours = module.startswith("pocketface")

    def fail() -> None:
        if ours or package not in _EXTRAS:
            raise EnvironmentProblemError(
                f"command {point.name!r} cannot be loaded ({cause})", next="Install the package that brings it again"
            ) from cause
        raise MissingExtraError(f"command {point.name!r}", _EXTRAS[package], str(cause)) from cause

    why = "cannot be loaded" if ours or package not in _EXTRAS else f"needs the extra {_EXTRAS[package]!r}"
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    context = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    single.command(name=point.name, help=f"({why})", context_settings=context)(fail)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=CommandGroup,
    name="pocketface",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            print(f"pocketface {version('pocketface')}")
        except PackageNotFoundError:
            print("pocketface (not installed)")
        raise typer.Exit


@app.callback()
def pocketface(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG, help="Show the traceback of an error, too; anywhere on the line.")
    ] = False,
) -> None:
    """Big face models in, small verified mobile bundles out."""


app.command("run", epilog=commands.RUN_EXAMPLE)(commands.run)
app.command("inspect", epilog=commands.INSPECT_EXAMPLE)(commands.inspect)
app.command("models", epilog=MODELS_EXAMPLE)(models)
app.command("sign", epilog=getattr(sign, "epilog", None))(sign)
app.command("doctor", epilog=getattr(doctor, "epilog", None))(doctor)


def main() -> NoReturn:
    """The console script: runs the command line and exits."""
    sys.exit(app(prog_name="pocketface"))
