"""Small drawn faces in memory and on disk, shared by the training tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketface.benchmarks.data.face import Face
from pocketface.compression.cache import FaceCache, build_cache


@pytest.fixture(scope="session")
def textured_faces(tmp_path_factory: pytest.TempPathFactory) -> list[Face]:
    """Pictures of smooth noise with 68 random "landmarks", in sizes and places that make all borders and halvings
    happen."""
    folder, rng = tmp_path_factory.mktemp("textured"), np.random.default_rng(0)
    faces = []
    for index, (width, height) in enumerate([(90, 70), (131, 155), (64, 64), (201, 99), (40, 180), (75, 75)]):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        path = folder / f"{index}.png"
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path)
        centre = rng.uniform([0.3 * width, 0.3 * height], [0.7 * width, 0.7 * height])
        points = centre + rng.uniform(-0.25, 0.25, (68, 2)) * min(width, height)
        faces.append(Face(name=f"t/{index}", image=path, points=points.astype(np.float32)))
    return faces


@pytest.fixture(scope="session")
def textured_cache(textured_faces: list[Face]) -> FaceCache:
    return build_cache(textured_faces)


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of drawn faces: train/ (24) and test/ (6)."""
    from pocketface.benchmarks.data.synthetic import write_dataset

    root = tmp_path_factory.mktemp("drawn")
    write_dataset(root / "train", count=24, seed=1, size=96)
    write_dataset(root / "test", count=6, seed=2, size=96)
    return root
