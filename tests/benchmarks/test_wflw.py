"""WFLW's own lists, written here as the data set has them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pocketface.benchmarks.data.registry import DATASETS
from pocketface.sdk.errors import AnnotationError, BadInputError
from pocketface.sdk.schemes import load_scheme

WFLW = load_scheme("wflw98")
LISTS = "WFLW_annotations/list_98pt_rect_attr_train_test"


def line(points, attributes, image: str) -> str:
    numbers = " ".join(f"{value:.6f}" for value in np.ravel(points))
    return f"{numbers} 10 20 110 130 {' '.join(str(a) for a in attributes)} {image}\n"


@pytest.fixture
def points():
    return np.random.default_rng(5).uniform(0, 200, (4, 98, 2)).round(6)


@pytest.fixture
def root(tmp_path, points):
    (tmp_path / LISTS).mkdir(parents=True)
    for image in ("37--Soccer/37_Soccer_1.jpg", "0--Parade/0_Parade_2.jpg"):
        path = tmp_path / "WFLW_images" / image
        path.parent.mkdir(parents=True)
        Image.new("RGB", (200, 200)).save(path)
    (tmp_path / LISTS / "list_98pt_rect_attr_test.txt").write_text(
        line(points[0], (1, 0, 0, 0, 0, 1), "37--Soccer/37_Soccer_1.jpg")
        + line(points[1], (0, 0, 0, 0, 0, 0), "0--Parade/0_Parade_2.jpg")
        + line(points[2], (0, 0, 0, 1, 0, 0), "37--Soccer/37_Soccer_1.jpg")
    )
    (tmp_path / LISTS / "list_98pt_rect_attr_train.txt").write_text(
        line(points[3], (0, 1, 1, 0, 1, 0), "0--Parade/0_Parade_2.jpg")
    )
    return tmp_path


def test_points_are_zero_based_and_attributes_kept(root, points):
    faces = DATASETS["wflw"](root, folders=["test"], scheme=WFLW)
    # Sorted by name; the faces of a photo are numbered in the order of the list.
    assert [face.name for face in faces] == [
        "test/0--Parade/0_Parade_2_1",
        "test/37--Soccer/37_Soccer_1_1",
        "test/37--Soccer/37_Soccer_1_2",
    ]
    for face, want in zip(faces, (points[1], points[0], points[2]), strict=True):
        assert face.points.dtype == np.float32
        np.testing.assert_allclose(face.points, want, rtol=1e-6)
        assert face.image.is_file()
    assert dict(faces[1].attributes) == {
        "pose": True,
        "expression": False,
        "illumination": False,
        "make-up": False,
        "occlusion": False,
        "blur": True,
    }


def test_folders_are_splits_and_subsets(root):
    def names(*folders: str) -> list[str]:
        return [face.name for face in DATASETS["wflw"](root, folders=folders, scheme=WFLW)]

    assert len(names()) == 4
    assert names("train") == ["train/0--Parade/0_Parade_2_1"]
    assert names("test/blur") == ["test/37--Soccer/37_Soccer_1_1"]
    assert names("test/make-up", "test/pose") == ["test/37--Soccer/37_Soccer_1_1", "test/37--Soccer/37_Soccer_1_2"]
    assert len(names("test/blur", "test")) == 3
    with pytest.raises(BadInputError, match="no face found"):
        names("test/occlusion")
    with pytest.raises(BadInputError) as caught:
        names("test/largepose")
    assert "test/pose" in caught.value.choices


def test_the_folder_of_lists_is_found_from_inside_too(root):
    assert len(DATASETS["wflw"](root / "WFLW_annotations", scheme=WFLW)) == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (" 37--Soccer/37_Soccer_1.jpg", "", "206 fields, expected 207"),
        ("37_Soccer_1.jpg", "37_Soccer_9.jpg", "its image is missing, expected WFLW_images/37--Soccer/37_Soccer_9.jpg"),
        ("37--Soccer/37_Soccer_1.jpg", "../secret.jpg", "its image is missing"),
        (" 1 0 0 0 0 1 37", " 1 0 0 0 0 7 37", "attributes 1 0 0 0 0 7"),
        (" 10 20 110 130 1", " nan 10 20 110 130 1", "208 fields"),
        ("FIRST", "nan", "point 1 has x = nan"),
        ("FIRST", "x1", "could not convert"),
        ("FIRST", "", "206 fields"),
    ],
)
def test_broken_lines_are_named(root, points, old, new, said):
    path = root / LISTS / "list_98pt_rect_attr_test.txt"
    Image.new("RGB", (8, 8)).save(root / "secret.jpg")
    first, *rest = path.read_text().splitlines(keepends=True)
    old = first.split()[0] if old == "FIRST" else old
    assert old in first
    path.write_text("".join([*rest, "\n", first.replace(old, new, 1)]))
    with pytest.raises(AnnotationError) as caught:
        DATASETS["wflw"](root, scheme=WFLW)
    assert str(caught.value).startswith("list_98pt_rect_attr_test.txt line 4: ")
    assert said in str(caught.value)
    kept = DATASETS["wflw"](root, scheme=WFLW, skip_bad=True, on_skip=lambda error: None)
    assert len(kept) == 3


def test_another_scheme_is_an_error_about_points(root):
    with pytest.raises(AnnotationError, match=r"98 points, expected 68 \(scheme ibug68\)"):
        DATASETS["wflw"](root, scheme=load_scheme("ibug68"))


def test_a_folder_without_lists_or_images_says_which(root, tmp_path):
    (root / "WFLW_images").rename(root / "images")
    with pytest.raises(BadInputError, match="has no WFLW_images/") as caught:
        DATASETS["wflw"](root, scheme=WFLW)
    assert caught.value.choices == ("WFLW_annotations", "images")
    (root / "WFLW_annotations").rename(root / "lists")
    with pytest.raises(BadInputError, match="has no WFLW_annotations/"):
        DATASETS["wflw"](root, scheme=WFLW)
