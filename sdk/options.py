"""Arguments that several subcommands share, and the example line of their --help: written once, to read alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

Command = TypeVar("Command", bound=Callable[..., None])

BundlePath = Annotated[
    Path, typer.Argument(help="Bundle folder, .pface file, or name of one that comes along.", show_default=False)
]
Delegate = Annotated[
    str, typer.Option(help="What the runtime hands the network to: cpu, xnnpack, cuda, coreml, as it has them here.")
]
DataFormat = Annotated[
    str,
    typer.Option(
        help="How the data is laid out: pts (any tree of images, each with a .pts), 300w or wflw; of labelled "
        "pictures, figaro1k, celebamask or drawn."
    ),
]
DataFolders = Annotated[
    list[str] | None,
    typer.Option(
        help="Part of the data to take, relative to its root. Give it again for several (default: all).",
        show_default=False,
    ),
]
Json = Annotated[str | None, typer.Option(help="Write the figures as JSON; - is standard output.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


def example(text: str) -> Callable[[Command], Command]:
    """Give a command the line at the end of its --help."""

    def add(command: Command) -> Command:
        command.epilog = f"Example: {text}"  # type: ignore[attr-defined]
        return command

    return add
