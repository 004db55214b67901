"""What the stages of a cascade say about views: computed once for a pool of them and kept in a file, or in the loop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pocketface.compression.augment.views import Views
from pocketface.compression.models.gtn import StagedNet, StageOutput
from pocketface.compression.training.markups import POSE
from pocketface.compression.training.tensors import network_input
from pocketface.sdk.errors import ConfigError
from pocketface.sdk.files import os_problem
from pocketface.sdk.progress import track

HINTS = "hints.safetensors"
KEY = "pocketface-hints"

Draw = Callable[[NDArray[np.int64], NDArray[np.int64], int], Views]
"""(B,) faces, (B,) views, side of the crop -> views: the same places as the student's."""


class Hints(Protocol):
    """A teacher's stages for views of faces."""

    def stages(self, index: NDArray[np.int64], views: NDArray[np.int64]) -> list[StageOutput]:
        """(B,) faces and (B,) views of them -> one output for each of its stages, without gradient."""
        ...


class LiveHints:
    """A teacher that looks at every view, at its own input size.

    Args:
        teacher: a trained cascade; put into evaluation mode.
        draw: draws the views.

    Raises:
        ConfigError: the teacher has no stages.
    """

    def __init__(self, teacher: nn.Module, draw: Draw) -> None:
        if not isinstance(teacher, StagedNet):
            raise ConfigError(
                f"teacher {type(teacher).__name__} has no stages to take hints from",
                expected="a network with a geometry transfer network at each stage, such as acdc",
                next="Name acdc in teachers.landmarks",
            )
        self.teacher, self.draw = teacher.eval().requires_grad_(False), draw

    @torch.no_grad()
    def stages(self, index: NDArray[np.int64], views: NDArray[np.int64]) -> list[StageOutput]:
        pixels = self.draw(index, views, self.teacher.input_size).pixels
        found = self.teacher.to(pixels.device).stages(network_input(self.teacher, pixels))
        return [StageOutput(stage.points, stage.pose) for stage in found]


class PooledHints:
    """Hints for a finite pool of views, computed before.

    Args:
        values: mark-up, or ``"pose"`` -> (N, views, stages, n, 2), or (N, views, stages, 3); float32.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self.values = dict(values)

    def stages(self, index: NDArray[np.int64], views: NDArray[np.int64]) -> list[StageOutput]:
        rows, pool = torch.as_tensor(index), torch.as_tensor(views)
        picked = {name: values[rows, pool].unbind(1) for name, values in self.values.items()}
        poses = picked.pop(POSE)
        return [
            StageOutput({name: parts[place] for name, parts in picked.items()}, pose)
            for place, pose in enumerate(poses)
        ]


def look_at_pool(
    live: LiveHints, faces: int, views: int, *, batch: int = 64, progress: Callable[[int], None] | None = None
) -> dict[str, Tensor]:
    """Every stage's points and pose for every view of a pool, see `PooledHints`.

    Args:
        faces, views: N faces, each in so many views.
        progress: called with the number of views done.
    """
    pool: list[dict[str, Tensor]] = []
    for view in range(views):
        parts: list[dict[str, Tensor]] = []
        # Each face once a batch: where boxes are moved, a face has one place at a time.
        for index in np.array_split(np.arange(faces), -(-faces // batch)):
            stages = live.stages(index, np.full_like(index, view))
            part = {name: torch.stack([stage.points[name] for stage in stages], 1) for name in stages[0].points}
            part[POSE] = torch.stack([stage.pose for stage in stages], 1)
            parts.append({name: values.float().cpu() for name, values in part.items()})
            if progress:
                progress(view * faces + int(index[-1]) + 1)
        pool.append({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    return {name: torch.stack([values[name] for values in pool], 1) for name in pool[0]}


def pooled_hints(
    live: LiveHints, path: Path, *, faces: int, views: int, recipe: str, progress: bool = True
) -> PooledHints:
    """The hints of a pool, from the file that an interrupted run left if it holds these, else computed and written.

    Args:
        live: asked if need be.
        path: of the file.
        faces, views: of the pool.
        recipe: everything that decides what the views show.
        progress: show a bar.

    Raises:
        EnvironmentProblemError: the disk is full or not writable.
    """
    print_ = _fingerprint(live.teacher, f"{recipe} {faces} {views}")
    if _written(path) == print_:
        return PooledHints(load_file(path))
    with track("teacher looks at the views", faces * views, show=progress) as step:
        values = look_at_pool(live, faces, views, progress=step)
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in values.items()}, partial, metadata={KEY: print_})
        partial.replace(path)
    except OSError as error:
        raise os_problem(error, path) from error
    return PooledHints(values)


def _written(path: Path) -> str | None:
    """The fingerprint in a file; None if there is no whole file."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get(KEY)
    except (OSError, SafetensorError):
        return None  # written again: only the teacher's time is lost


def _fingerprint(teacher: nn.Module, recipe: str) -> str:
    found = hashlib.sha256(recipe.encode())
    for name, tensor in sorted(teacher.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
