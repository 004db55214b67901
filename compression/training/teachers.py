"""What the teachers say about a batch of views: looked up where views come from a pool, computed in the loop
otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketface.compression.augment.views import ViewRenderer
from pocketface.compression.models.heads import LandmarkNet
from pocketface.compression.training.tensors import network_input


class Teachers(Protocol):
    """Teachers' landmarks for views of faces."""

    def points(self, index: NDArray[np.int64], views: NDArray[np.int64]) -> dict[str, Tensor]:
        """(B,) faces and (B,) views of them -> name of the teacher -> (B, n, 2) normalised crop coordinates."""
        ...


class LiveTeachers:
    """Teachers that look at every view, each at its own input size, in inference mode.

    Args:
        nets: name -> trained network.
        renderer: the same that draws the student's views.
    """

    def __init__(self, nets: Mapping[str, LandmarkNet], renderer: ViewRenderer) -> None:
        self.nets = {name: net.eval().requires_grad_(False) for name, net in nets.items()}
        self.renderer = renderer

    @torch.inference_mode()
    def points(self, index: NDArray[np.int64], views: NDArray[np.int64]) -> dict[str, Tensor]:
        pixels: dict[int, Tensor] = {}
        found = {}
        for name, net in self.nets.items():
            if net.input_size not in pixels:
                pixels[net.input_size] = self.renderer.faces(index, views, net.input_size).pixels
            source = pixels[net.input_size]
            found[name] = net.to(source.device)(network_input(net, source))[0]
        return found


class CachedTeachers:
    """Teachers whose landmarks for a finite pool of views were computed once, by ``LiveTeachers``.

    Args:
        points: name -> (N, views, n, 2) float32.
    """

    def __init__(self, points: Mapping[str, Tensor]) -> None:
        self._points = dict(points)

    def points(self, index: NDArray[np.int64], views: NDArray[np.int64]) -> dict[str, Tensor]:
        return {name: points[torch.as_tensor(index), torch.as_tensor(views)] for name, points in self._points.items()}


def look_at_pool(
    teachers: LiveTeachers, faces: int, views: int, *, batch: int = 64, progress: Callable[[int], None] | None = None
) -> dict[str, Tensor]:
    """Every teacher's landmarks for every view of a pool.

    Returns:
        name -> (faces, views, n, 2) float32.
    """
    index, view = (grid.ravel() for grid in np.meshgrid(np.arange(faces), np.arange(views), indexing="ij"))
    parts: dict[str, list[Tensor]] = {name: [] for name in teachers.nets}
    for start in range(0, len(index), batch):
        chosen = slice(start, start + batch)
        for name, points in teachers.points(index[chosen], view[chosen]).items():
            parts[name].append(points.float().cpu())
        if progress:
            progress(min(start + batch, len(index)))
    return {name: torch.cat(part).reshape(faces, views, -1, 2) for name, part in parts.items()}
