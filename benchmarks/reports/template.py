"""The templates of reports: HTML that holds everything it shows and loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pocketface.sdk.errors import MissingExtraError

if TYPE_CHECKING:
    import jinja2


def template(name: str) -> jinja2.Template:
    """A template that lies beside this file.

    Raises:
        MissingExtraError: the extra ``bench`` (jinja2, matplotlib) is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("writing the report", "bench", str(error)) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
