"""The `.pts` reader against points written and read by hand, and against every way such a file can be broken."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from pocketface.benchmarks.data.pts import format_points, parse_points, read_points
from pocketface.benchmarks.data.registry import DATASETS
from pocketface.sdk.errors import AnnotationError, BadInputError
from pocketface.sdk.manifest import Scheme
from pocketface.sdk.schemes import load_scheme

THREE = Scheme(name="three", points=3, parts={}, normaliser=(0, 1))
IBUG = load_scheme("ibug68")
HEADER = "version: 1\nn_points:  3\n{\n1.0 2.0\n11.5 2.25\n6.0 9.125\n}\n"
# By hand: every number of HEADER less 1.
BY_HAND = np.array([[0, 1], [10.5, 1.25], [5, 8.125]], np.float32)


def write_face(path: Path, text: str = HEADER, *, image: str | None = ".jpg") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    if image is not None:
        Image.new("RGB", (20, 16)).save(path.with_suffix(image))


@pytest.mark.parametrize(
    "text",
    [
        HEADER,
        "1.0 2.0\n11.5 2.25\n6.0 9.125\n",
        HEADER.replace("\n", "\r\n"),
        "\ufeff" + HEADER,
        "version: 1\nn_points:3\n{\n  1 2\n\n11.5\t2.25\n6 9.125\n}",
        "n_points: 3\n1.0 2.0\n11.5 2.25\n6.0 9.125",
        "{\n1.0 2.0\n1.15e1 2.25\n6.0 9.125\n}\n\n",
    ],
    ids=["header", "bare", "crlf", "bom", "loose", "no braces", "only braces"],
)
def test_points_are_read_as_written_less_one(tmp_path, text):
    write_face(tmp_path / "a.pts", text)
    points = read_points(tmp_path / "a.pts", THREE)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, BY_HAND)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        (" \n\n", "the file is empty"),
        ("version: 1\nn_points: 3\n{\n}\n", "0 points, expected 3, as its own n_points says"),
        ("version: 1\nn_points: 0\n{\n}\n", "0 points, expected 3 (scheme three)"),
        ("1 2\n3 4\n", "2 points, expected 3 (scheme three)"),
        (HEADER.replace("6.0 9.125\n", ""), "2 points, expected 3, as its own n_points says"),
        (HEADER.replace("}\n", ""), "the closing brace is missing"),
        (HEADER + "5 5\n", "line 8: '5 5' after the closing brace"),
        (HEADER.replace("11.5", "eleven"), "line 5: 'eleven 2.25', expected two numbers"),
        (HEADER.replace("11.5 2.25", "11.5"), "line 5: '11.5', expected two numbers"),
        (HEADER.replace("11.5 2.25", "1 2 3"), "line 5: '1 2 3', expected two numbers"),
        (HEADER.replace("11.5", "nan"), "point 2 has x = nan"),
        (HEADER.replace("2.25", "-inf"), "point 2 has y = -inf"),
        (HEADER.replace("2.25", "1e300"), "point 2 has y = 1e+300"),
        (HEADER.replace("11.5 2.25", "1 2"), "points 1 and 2 are in one place"),
        (HEADER.replace("  3", " many"), "n_points is 'many'"),
        ("<html>" * 20, "line 1: '<html><html>"),
        ("\0\1\2", "not a text file"),
    ],
)
def test_broken_files_are_refused_by_name(tmp_path, text, said):
    write_face(tmp_path / "helen" / "a_1.pts", text)
    with pytest.raises(AnnotationError) as caught:
        DATASETS["pts"](tmp_path, scheme=THREE)
    assert str(caught.value).startswith("helen/a_1.pts")
    assert str(tmp_path) not in str(caught.value)
    assert said in str(caught.value)
    assert "--skip-bad" in str(caught.value)


def test_67_points_say_what_to_do(tmp_path):
    write_face(tmp_path / "helen" / "2968783399_1.pts", format_points(np.arange(134).reshape(67, 2)))
    with pytest.raises(AnnotationError) as caught:
        DATASETS["300w"](tmp_path, folders=["helen"], scheme=IBUG)
    assert str(caught.value) == (
        "helen/2968783399_1.pts: 67 points, expected 68 (scheme ibug68). Fix the file, leave it out with --skip-bad, "
        "or choose a scheme with 67 points: pocketface schemes."
    )


def test_binary_bytes_and_huge_files_are_refused(tmp_path):
    (tmp_path / "a.pts").write_bytes(bytes(range(1, 256)))
    with pytest.raises(AnnotationError, match=r"a\.pts"):
        read_points(tmp_path / "a.pts", THREE)
    (tmp_path / "b.pts").write_bytes(b"1 2\n" * 400_000)
    with pytest.raises(AnnotationError, match="not a text file"):
        read_points(tmp_path / "b.pts", THREE)
    with pytest.raises(AnnotationError, match=r"c\.pts: cannot be read"):
        read_points(tmp_path / "c.pts", THREE, root=tmp_path)


@given(arrays(np.float64, (7, 2), elements=st.floats(-5000, 5000)))
def test_written_points_come_back(points):
    back = np.array(parse_points(format_points(points).encode(), "x")) - 1
    assert np.abs(back - points).max() <= 0.0005 + 1e-9  # three decimals


@given(st.one_of(st.binary(max_size=200), st.text("0123456789.-e \n{}nv:", max_size=60).map(str.encode)))
def test_any_bytes_give_points_or_a_typed_error(raw):
    with contextlib.suppress(AnnotationError):
        assert all(len(pair) == 2 for pair in parse_points(raw, "x.pts"))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".JPG", ".PnG"])
def test_images_of_every_kind_are_found(tmp_path, suffix):
    write_face(tmp_path / "lfpw" / "image_0001.pts", image=suffix)
    (face,) = DATASETS["pts"](tmp_path, scheme=THREE)
    assert face.name == "lfpw/image_0001"
    assert face.folder == "lfpw"
    assert face.image == tmp_path / "lfpw" / f"image_0001{suffix}"


def test_upper_case_annotations_are_found_too(tmp_path):
    write_face(tmp_path / "A.PTS", image=".jpg")
    assert [face.name for face in DATASETS["pts"](tmp_path, scheme=THREE)] == ["A"]


def test_several_faces_share_a_photo_or_have_a_crop_each(tmp_path):
    # AFW's own download: X_1.pts and X_2.pts beside X.jpg. Y_1 has its own crop although Y.jpg is there too.
    for stem in ("X_1", "X_2", "Y_1"):
        write_face(tmp_path / f"{stem}.pts", image=None)
    for stem in ("X", "Y", "Y_1"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{stem}.jpg")
    faces = DATASETS["pts"](tmp_path, scheme=THREE)
    assert [(face.name, face.image.name) for face in faces] == [
        ("X_1", "X.jpg"),
        ("X_2", "X.jpg"),
        ("Y_1", "Y_1.jpg"),
    ]


def test_a_missing_image_names_both(tmp_path):
    write_face(tmp_path / "afw" / "X_1.pts", image=None)
    with pytest.raises(AnnotationError) as caught:
        DATASETS["pts"](tmp_path, scheme=THREE)
    for part in ("afw/X_1.pts", "X_1.jpg", "X_1.jpeg", "X_1.png", "X.jpg", "--skip-bad"):
        assert part in str(caught.value)


def test_two_images_for_one_annotation_are_refused_unless_the_case_decides(tmp_path):
    write_face(tmp_path / "a.pts", image=".jpg")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(AnnotationError, match=r"2 images fit \(a\.jpg, a\.png\)"):
        DATASETS["pts"](tmp_path, scheme=THREE)
    (tmp_path / "a.png").rename(tmp_path / "A.png")
    (face,) = DATASETS["pts"](tmp_path, scheme=THREE)
    assert face.image.name == "a.jpg"


def test_skip_bad_leaves_out_and_reports(tmp_path, caplog):
    write_face(tmp_path / "good.pts")
    write_face(tmp_path / "bad.pts", "1 2\n")
    write_face(tmp_path / "lost.pts", image=None)
    told: list[str] = []
    faces = DATASETS["pts"](tmp_path, scheme=THREE, skip_bad=True, on_skip=lambda error: told.append(str(error)))
    assert [face.name for face in faces] == ["good"]
    assert [text.split(":")[0] for text in told] == ["bad.pts", "lost.pts"]
    DATASETS["pts"](tmp_path, scheme=THREE, skip_bad=True)
    assert [record.message.split(":")[1].strip() for record in caplog.records] == ["bad.pts", "lost.pts"]


def test_only_bad_files_are_no_data_set(tmp_path):
    write_face(tmp_path / "bad.pts", "1 2\n")
    with pytest.raises(BadInputError, match="no face found"):
        DATASETS["pts"](tmp_path, scheme=THREE, skip_bad=True, on_skip=lambda error: None)


def test_what_archives_of_macos_leave_behind_is_passed_over(tmp_path):
    write_face(tmp_path / "a" / "1.pts")
    write_face(tmp_path / "a" / "._1.pts", "\0\0", image=None)
    write_face(tmp_path / "__MACOSX" / "1.pts", "\0\0", image=None)
    assert [face.name for face in DATASETS["pts"](tmp_path, scheme=THREE)] == ["a/1"]


def test_folders_choose_and_a_missing_one_lists_what_there_is(tmp_path):
    for name in ("helen/testset/1", "helen/trainset/2", "afw/3"):
        write_face(tmp_path / f"{name}.pts")
    read = DATASETS["pts"]
    assert [f.name for f in read(tmp_path, scheme=THREE)] == ["afw/3", "helen/testset/1", "helen/trainset/2"]
    assert [f.name for f in read(tmp_path, folders=["helen/"], scheme=THREE)] == ["helen/testset/1", "helen/trainset/2"]
    # Named twice, or inside another one: still once.
    both = read(tmp_path, folders=["helen/testset", "helen", "helen"], scheme=THREE)
    assert [f.name for f in both] == ["helen/testset/1", "helen/trainset/2"]
    with pytest.raises(BadInputError) as caught:
        read(tmp_path, folders=["helen/test"], scheme=THREE)
    assert caught.value.choices == ("afw", "helen/testset", "helen/trainset")
    with pytest.raises(BadInputError, match="expected a list"):
        read(tmp_path, folders="afw", scheme=THREE)
    with pytest.raises(BadInputError, match="is not in"):
        read(tmp_path / "afw", folders=["../helen"], scheme=THREE)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_a_root_that_is_no_folder_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInputError, match=name):
        DATASETS["pts"](tmp_path / name, scheme=THREE)
    with pytest.raises(BadInputError, match="no face found"):
        DATASETS["pts"](tmp_path, scheme=THREE)
