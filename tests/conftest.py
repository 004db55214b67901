"""Fixtures that every package's tests share. Real faces are used only where $POCKETFACE_DATA names them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # One process a core: with more threads than that they would wait for each other. Before torch is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    """A command sets up logging for its process; the next test's output is another one's."""
    loggers = [logging.getLogger(name) for name in ("pocketface", "lightning.pytorch")]
    before = [(logger, list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, handlers, propagate, level in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real faces, in the layout of shared data sets (300w/, ...)."""
    root = os.environ.get("POCKETFACE_DATA", "")
    if not root or not Path(root).is_dir():
        pytest.skip("real faces are not here: set POCKETFACE_DATA to the folder that holds 300w/")
    return Path(root)
