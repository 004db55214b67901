"""300-W's own layout, on faces made here and, where there are some, on the real ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.pts import format_points
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.benchmarks.data.w300 import TEST_FOLDERS, TRAIN_FOLDERS
from pocketface.sdk.errors import AnnotationError, BadInputError
from pocketface.sdk.schemes import load_scheme

IBUG = load_scheme("ibug68")


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("afw", "helen/trainset", "helen/testset", "mine"):
        (tmp_path / folder).mkdir(parents=True)
        for stem in ("b_1", "a_1"):
            (tmp_path / folder / f"{stem}.pts").write_text(format_points(rng.uniform(0, 99, (68, 2))))
            Image.new("RGB", (100, 100)).save(tmp_path / folder / f"{stem}.jpg")
    return tmp_path


def test_all_means_the_folders_of_300w(root):
    faces = DATASETS["300w"](root, scheme=IBUG)
    assert [face.name for face in faces] == [
        *("afw/a_1", "afw/b_1", "helen/testset/a_1", "helen/testset/b_1", "helen/trainset/a_1", "helen/trainset/b_1")
    ]
    assert {face.folder for face in DATASETS["300w"](root, folders=["mine", "afw"], scheme=IBUG)} == {"afw", "mine"}


def test_the_folder_that_holds_300w_gives_the_same_names(root):
    outer = root.parent / "outer"
    outer.mkdir()
    root.rename(outer / "300w")
    assert [f.name for f in DATASETS["300w"](outer, folders=["afw"], scheme=IBUG)] == ["afw/a_1", "afw/b_1"]


def test_another_layout_is_refused_with_what_there_is(root):
    for folder in ("afw", "helen"):
        (root / folder).rename(root / f"my-{folder}")
    with pytest.raises(BadInputError) as caught:
        DATASETS["300w"](root, scheme=IBUG)
    assert caught.value.choices == ("mine", "my-afw", "my-helen/testset", "my-helen/trainset")
    assert "helen/testset" in str(caught.value)
    assert "--format pts" in str(caught.value)


def test_two_faces_of_one_name_are_refused(root):
    for stem in ("a_1.PTS",):
        (root / "afw" / stem).write_text((root / "afw" / "a_1.pts").read_text())
    if len(list((root / "afw").glob("a_1.*"))) < 3:
        pytest.skip("this file system does not tell names apart by case")
    with pytest.raises(AnnotationError, match="two annotations are named afw/a_1"):
        DATASETS["300w"](root, scheme=IBUG)


def test_the_box_is_the_ground_truth_convention():
    # Bounding box 10..50 x 20..40: the longer side is 40, so a square of 50 around (30, 30).
    face = Face("f", image=None, points=np.array([[10, 20], [50, 40], [30, 30]], np.float32))  # type: ignore[arg-type]
    assert tuple(face.box) == (5, 5, 55, 55)
    assert face.folder == ""


@pytest.mark.real
def test_real_afw_agrees_with_numpys_own_text_reader(data_root):
    faces = DATASETS["300w"](data_root, folders=["afw"], scheme=IBUG)
    assert len(faces) == 337
    for face in faces[::20]:
        want = np.genfromtxt(face.image.with_suffix(".pts"), skip_header=3, skip_footer=1) - 1
        np.testing.assert_allclose(face.points, want, atol=1e-4)


@pytest.mark.real
def test_real_faces_are_all_read_and_look_like_faces(data_root):
    faces = DATASETS["300w"](data_root, scheme=IBUG)
    count = {folder: sum(face.folder == folder for face in faces) for folder in (*TRAIN_FOLDERS, *TEST_FOLDERS)}
    assert count["helen/testset"] == 330
    assert count["lfpw/trainset"] == 805
    assert sum(count.values()) == len(faces)
    for face in faces:
        eyes, chin, mouth = face.points[36:48], face.points[8], face.points[48:68]
        assert np.linalg.norm(eyes.mean(axis=0) - chin) > np.linalg.norm(mouth.mean(axis=0) - chin), face.name
