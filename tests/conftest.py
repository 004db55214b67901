"""Fixtures that every package's tests share. Real faces are used only where $POCKETFACE_DATA names them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real faces, in the layout of shared data sets (300w/, ...)."""
    root = os.environ.get("POCKETFACE_DATA", "")
    if not root or not Path(root).is_dir():
        pytest.skip("real faces are not here: set POCKETFACE_DATA to the folder that holds 300w/")
    return Path(root)
