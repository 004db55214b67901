"""Models that are a few arrays, in one ``.npz`` with the schema they were written in."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketface.sdk.errors import BadInputError
from pocketface.sdk.files import write_atomic


def save_arrays(path: str | Path, arrays: Mapping[str, Any], *, schema: int, force: bool) -> None:
    """Write arrays and their schema, complete or not at all.

    Raises:
        BadInputError: the file exists and ``force`` is not set.
        EnvironmentProblemError: the file cannot be written; nothing is left behind then.
    """
    buffer = io.BytesIO()
    np.savez(buffer, schema=np.array(schema), **arrays)
    write_atomic(path, buffer.getvalue(), force=force)


def load_arrays(path: str | Path, names: tuple[str, ...], *, schema: int, what: str, by: str) -> list[NDArray[Any]]:
    """Read what ``save_arrays`` wrote.

    Args:
        path: the file.
        names: of the arrays, in the order wanted.
        schema: the one that can be read.
        what: the model, for messages: ``"shape model"``.
        by: what writes it, for messages: ``"ShapeModel.save"``.

    Raises:
        BadInputError: the file is missing, no readable ``.npz``, lacks an array, or is of another schema.
    """
    again = f"fit and save the {what} again"
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            found = int(file["schema"])
            arrays = [file[name] for name in names] if found == schema else []
    except FileNotFoundError as error:
        raise BadInputError(f"{path}: no such {what}", next=again) from error
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadInputError(
            f"{path}: not a {what} ({error})", expected=f"an .npz written by {by}", next=again
        ) from error
    if found != schema:
        raise BadInputError(f"{path}: {what} of schema {found}", expected=str(schema), next=again)
    return arrays
