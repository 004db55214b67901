"""The hash of a data set: what moves it, and what does not."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest

from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.fingerprint import data_source, dataset_hash
from pocketface.sdk.errors import BadInputError, ImageError


@pytest.fixture
def faces(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"first picture")
    (tmp_path / "b.jpg").write_bytes(b"second picture")
    points = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    return [Face("x/a", tmp_path / "a.jpg", points[0]), Face("x/b", tmp_path / "b.jpg", points[1])]


def test_it_is_what_its_description_says(faces):
    total = hashlib.sha256(b"pocketface faces 1\n")
    for name, image, first in ((b"x/a", b"first picture", 0), (b"x/b", b"second picture", 6)):
        total.update(struct.pack("<QQ", 3, 3) + name + hashlib.sha256(image).digest())
        total.update(struct.pack("<6f", *range(first, first + 6)))
    assert dataset_hash(faces) == total.hexdigest()


def test_it_does_not_depend_on_order_or_place(faces, tmp_path):
    before = dataset_hash(faces)
    assert dataset_hash(faces[::-1]) == before
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for face in faces:
        (elsewhere / face.image.name).write_bytes(face.image.read_bytes())
    assert dataset_hash([replace(face, image=elsewhere / face.image.name) for face in faces]) == before


def test_names_pixels_points_and_number_all_count(faces):
    hashes = {dataset_hash(faces), dataset_hash(faces[:1])}
    hashes.add(dataset_hash([replace(faces[0], name="x/c"), faces[1]]))
    hashes.add(dataset_hash([replace(faces[0], points=faces[0].points + np.float32(1e-3)), faces[1]]))
    hashes.add(dataset_hash([replace(faces[0], image=faces[1].image), faces[1]]))
    faces[0].image.write_bytes(b"first picturE")
    hashes.add(dataset_hash(faces))
    assert len(hashes) == 6


def test_the_manifest_line_names_no_path(faces, tmp_path):
    line = data_source(faces, name="300w", split="test", licence="research")
    assert (line.name, line.split, line.faces, line.licence) == ("300w", "test", 2, "research")
    assert line.sha256 == dataset_hash(faces)
    assert str(tmp_path) not in str(line)


def test_no_faces_and_lost_images_are_errors(faces):
    with pytest.raises(BadInputError):
        dataset_hash([])
    faces[0].image.unlink()
    with pytest.raises(ImageError, match=r"a\.jpg"):
        dataset_hash(faces)
