from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from pocketface.benchmarks.data.face import Face
from pocketface.compression.recipe import DataSpec
from pocketface.compression.training.faces import background_cache, read_split, split_by_photo, thin
from pocketface.sdk.errors import BadInputError, ConfigError

SPEC = DataSpec(name="drawn", format="pts", train=("train",), test=("test",), val_share=0.25)


def faces(names: list[str]) -> list[Face]:
    return [Face(name=name, image=Path("x"), points=np.zeros((68, 2), np.float32)) for name in names]


def test_faces_of_one_photo_stay_together():
    names = [f"afw/{photo}_{k}" for photo in range(200) for k in range(1, 4)]
    train, validation = split_by_photo(faces(names), 0.2)
    photos = [{face.name.rpartition("_")[0] for face in part} for part in (train, validation)]
    assert not photos[0] & photos[1]
    assert 0.1 < len(validation) / len(names) < 0.3


def test_numbered_photos_are_photos_of_their_own():
    """LFPW's image_0001 .. image_0811 are different people; a split must not move them as one."""
    train, validation = split_by_photo(faces([f"lfpw/trainset/image_{k:04d}" for k in range(500)]), 0.1)
    assert 25 < len(validation) < 75
    assert len(train) + len(validation) == 500


def test_more_data_moves_no_face_across():
    few = [f"x/{k}" for k in range(100)]
    before = {face.name for face in split_by_photo(faces(few), 0.3)[1]}
    after = {face.name for face in split_by_photo(faces(few + [f"y/{k}" for k in range(100)]), 0.3)[1]}
    assert before <= after


def test_thin_spreads_over_the_list():
    chosen = [face.name for face in thin(faces([str(k) for k in range(11)]), 3)]
    assert chosen == ["0", "5", "10"]
    assert len(thin(faces(["a", "b"]), 5)) == 2


def test_training_and_test_faces_may_not_overlap(drawn_folder: Path):
    split = read_split(SPEC, drawn_folder)
    assert (len(split.train) + len(split.validation), len(split.test)) == (24, 6)
    with pytest.raises(BadInputError, match="train/"):
        read_split(msgspec.structs.replace(SPEC, test=("train",)), drawn_folder)


@pytest.mark.parametrize(("key", "value"), [("train", ()), ("test", ()), ("val_share", 0.0), ("val_share", 1.0)])
def test_a_split_that_makes_no_sense_is_refused(key: str, value: object):
    with pytest.raises(ConfigError, match=key):
        DataSpec(**{**msgspec.structs.asdict(SPEC), key: value})


def test_backgrounds_are_pictures_without_landmarks():
    cache = background_cache(3, seed=0, n_points=68)
    assert cache.images.shape == (3, 3, 192, 192)
    assert cache.images.float().std((1, 2, 3)).min() > 0
    assert cache.points.shape == (3, 68, 2)


@pytest.mark.real
def test_real_faces_split_as_counted(data_root: Path):
    spec = DataSpec(
        name="300-W", train=("afw", "helen/trainset", "lfpw/trainset"), test=("helen/testset",), val_share=0.1
    )
    split = read_split(spec, data_root / "300w")
    assert len(split.train) + len(split.validation) == 337 + 870 + 805
    assert len(split.test) == 330
    assert 0.07 < len(split.validation) / 2012 < 0.13
