"""Every kind of file that a stranger may send: right, or refused. Files are put together by hand from the formats'
specifications where Pillow's own writer would be the judge of its own reader.
"""

from __future__ import annotations

import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pocketface.sdk.errors import ImageError
from pocketface.sdk.images import read_image

VALUES = np.random.default_rng(3).integers(0, 65536, (4, 5, 4))
EDGES = [0, 1, 127, 128, 129, 255, 256, 257, 32767, 32768, 65406, 65407, 65534, 65535]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: NDArray[Any], colour: int, *extra: bytes, depth: int = 16, rows: bytes | None = None) -> bytes:
    """A PNG (ISO 15948): ``values`` (H, W, channels) of ``depth`` bits, rows without a filter."""
    height, width = values.shape[:2]
    packed = rows or b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(packed)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(values: NDArray[Any], *, bits: int, photometric: int = 1, kind: int = 1, packed: bytes | None = None) -> bytes:
    """A little-endian TIFF 6.0 of one strip: grey."""
    data = packed or values.tobytes()
    height, width = values.shape
    tags = [
        *((256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)),
        *((273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data)), (339, 3, kind)),
    ]
    fields = b"".join(struct.pack("<HHII", tag, type, 1, value) for tag, type, value in tags)
    start = 8 + len(data) + len(data) % 2
    directory = struct.pack("<H", len(tags)) + fields + bytes(4)
    return b"II*\0" + struct.pack("<I", start) + data + bytes(len(data) % 2) + directory


def eighth(values: NDArray[Any]) -> NDArray[Any]:
    """16 bits -> 8, the nearest: independent of integer tricks."""
    return np.floor(values / 65535 * 255 + 0.5).astype(int)


def over_white(values: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    share = alpha / 65535
    return np.floor((values * share + 65535 * (1 - share)) / 257 + 0.5).astype(int)


def grey(values: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(values[..., None], 3, axis=-1)


row = np.array([EDGES])
RGB16 = np.stack([row, row[:, ::-1], row], axis=-1)
twelve = np.array([[0, 1, 2048, 4095]])

RIGHT: dict[str, tuple[bytes, NDArray[Any]]] = {
    "16-bit grey": (png(row, 0), grey(eighth(row))),
    "16-bit grey, one value transparent": (
        png(row, 0, chunk(b"tRNS", struct.pack(">H", 257))),
        grey(np.where(row == 257, 255, eighth(row))),
    ),
    "16-bit RGB": (png(RGB16, 2), eighth(RGB16)),
    "16-bit RGB of noise": (png(VALUES[..., :3], 2), eighth(VALUES[..., :3])),
    "16-bit RGB, one colour transparent": (
        png(RGB16, 2, chunk(b"tRNS", struct.pack(">HHH", *RGB16[0, 2].tolist()))),
        np.where(np.arange(len(EDGES))[None, :, None] == 2, 255, eighth(RGB16)),
    ),
    "16-bit RGBA": (png(VALUES, 6), over_white(VALUES[..., :3], VALUES[..., 3:])),
    "8-bit grey, one value transparent": (
        png(np.array([[[7], [200]]]), 0, chunk(b"tRNS", b"\0\7"), depth=8),
        grey(np.array([[255, 200]])),
    ),
    "8-bit grey with alpha": (png(np.array([[[80, 255], [80, 0]]]), 4, depth=8), grey(np.array([[80, 255]]))),
    "8-bit RGB, one colour transparent": (
        png(np.array([[[1, 2, 3], [9, 8, 7]]]), 2, chunk(b"tRNS", bytes([0, 9, 0, 8, 0, 7])), depth=8),
        np.array([[[1, 2, 3], [255, 255, 255]]]),
    ),
    "palette, half transparent": (
        png(
            np.array([[[0], [1]]]),
            3,
            chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 50])),
            chunk(b"tRNS", bytes([255, 51])),  # a fifth of the second colour over white
            depth=8,
        ),
        np.array([[[10, 20, 30], [244, 224, 214]]]),
    ),
    "1 bit a pixel": (
        png(np.zeros((1, 8)), 0, depth=1, rows=b"\0\xa5"),
        grey(np.array([[255, 0, 255, 0, 0, 255, 0, 255]])),
    ),
    "1 x 1": (png(np.array([[[1, 2, 3]]]), 2, depth=8), np.array([[[1, 2, 3]]])),
    "TIFF, 16-bit grey": (tiff(row.astype("<u2"), bits=16), grey(eighth(row))),
    "TIFF, 16-bit grey, 0 is white": (tiff(row.astype("<u2"), bits=16, photometric=0), grey(eighth(65535 - row))),
    "TIFF, 12-bit grey": (
        tiff(twelve, bits=12, packed=bytes([0x00, 0x00, 0x01, 0x80, 0x0F, 0xFF])),
        grey(np.array([[0, 0, 128, 255]])),
    ),
    "TIFF, 8-bit grey, 0 is white": (
        tiff(np.array([[0, 5, 255]], np.uint8), bits=8, photometric=0),
        grey(np.array([[255, 250, 0]])),
    ),
    "PPM": (b"P6 2 1 255\n" + bytes([1, 2, 3, 4, 5, 6]), np.array([[[1, 2, 3], [4, 5, 6]]])),
}


@pytest.mark.parametrize("what", RIGHT)
def test_right(tmp_path: Path, what: str) -> None:
    data, wanted = RIGHT[what]
    (tmp_path / "image").write_bytes(data)
    found = read_image(tmp_path / "image")
    assert found.dtype == np.uint8
    assert found.tolist() == wanted.tolist()


def test_16_bit_colour_is_turned_by_exif_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise
    data = png(VALUES[..., :3], 2, chunk(b"eXIf", exif.tobytes()[6:]))
    (tmp_path / "a.png").write_bytes(data)
    assert read_image(tmp_path / "a.png").tolist() == eighth(np.rot90(VALUES[..., :3], -1)).tolist()


def test_16_bit_grey_with_alpha_is_at_most_one_level_off(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(VALUES[..., :2], 4))
    wanted = grey(over_white(VALUES[..., 0], VALUES[..., 1]))
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - wanted).max() <= 1


# Ink of the CMYK pictures: full magenta and yellow; half black; no ink.
INKS = {"red": ((0, 255, 255, 0), (255, 0, 0)), "grey": ((0, 0, 0, 128), (127,) * 3), "paper": ((0,) * 4, (255,) * 3)}


@pytest.mark.parametrize("ink", INKS)
@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpeg_with_and_without_adobes_inversion(tmp_path: Path, ink: str, adobe: bool) -> None:
    """Adobe's files hold 255 - ink and say so in a marker, APP14; files without the marker hold the ink."""
    values, wanted = INKS[ink]
    Image.new("CMYK", (16, 16), values).save(tmp_path / "a.jpg", quality=100)
    data = (tmp_path / "a.jpg").read_bytes()
    marker = data.find(b"\xff\xee")
    assert data[marker + 4 : marker + 9] == b"Adobe"
    if not adobe:
        # What is left holds 255 - ink without saying so, and is read as the opposite.
        length = int.from_bytes(data[marker + 2 : marker + 4], "big")
        data = data[:marker] + data[marker + 2 + length :]
        cyan, magenta, yellow, black = (255 - value for value in values)
        wanted = tuple((255 - part) * (255 - black) // 255 for part in (cyan, magenta, yellow))
    (tmp_path / "b.jpg").write_bytes(data)
    assert np.abs(read_image(tmp_path / "b.jpg").astype(int) - wanted).max() <= 3


def test_a_long_thin_image(tmp_path: Path) -> None:
    line = np.random.default_rng(0).integers(0, 256, (1, 65_000, 3), np.uint8)
    for name, values in (("wide.png", line), ("high.png", line.transpose(1, 0, 2))):
        Image.fromarray(np.ascontiguousarray(values)).save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name), values)
    (tmp_path / "longer.png").write_bytes(png(np.zeros((1, 100_000, 3), int), 2, depth=8))
    assert read_image(tmp_path / "longer.png").shape == (1, 100_000, 3)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_of_an_animation_with_transparency_the_first_frame(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGBA", (6, 4), colour) for colour in ((200, 0, 0, 255), (0, 200, 0, 255))]
    frames[0].paste((0, 0, 0, 0), (0, 0, 3, 4))
    options = {"lossless": True} if name.endswith("webp") else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    found = read_image(tmp_path / name)
    assert np.array_equal(found[:, :3], np.full((4, 3, 3), 255))
    assert np.array_equal(found[:, 3:], np.full((4, 3, 3), (200, 0, 0)))


EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(/tmp/evil) (w) file closefile\nshowpage\n%%EOF\n"
)

REFUSED: dict[str, tuple[bytes, str]] = {
    "float TIFF": (tiff(np.ones((2, 2), "<f4"), bits=32, kind=3), "32-bit values"),
    "32-bit TIFF": (tiff(np.ones((2, 2), "<i4"), bits=32, kind=2), "32-bit values"),
    "PostScript": (EPS, "not an image that can be read"),
    "an icon": (b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + struct.pack("<II", 40, 22) + bytes(60), "not an image"),
    "HTML": (b"<!doctype html><html></html>", "not an image"),
    "only a signature": (b"\x89PNG\r\n\x1a\n", "broken|not an image"),
    "a header and nothing else": (png(np.zeros((2, 2, 3), int), 2)[:33], "broken|not an image"),
    "rows that are too few": (png(np.zeros((9, 9, 3), int), 2, rows=b"\0\1"), "broken"),
    "zeros": (bytes(1000), "not an image"),
    "a text chunk that unpacks to 100 MB": (
        png(np.zeros((1, 1, 3), int), 2, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 * 2**20))), depth=8),
        "broken",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("another program was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    data, message = REFUSED[what]
    (tmp_path / "image").write_bytes(data)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(tmp_path / "image")
    assert caught.value.next


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: png(np.zeros((1, 1, 3), int), 2)[:16] + struct.pack(">II", 90_000, 900) + bytes(50),
        lambda: b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(9),
        lambda: b"P6 60000 60000 255\n",
        lambda: b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 30_000, 30_000, 1, 24, 0) + bytes(40),
    ],
)
def test_bombs(tmp_path: Path, make: Callable[[], bytes]) -> None:
    (tmp_path / "bomb").write_bytes(make())
    with pytest.raises(ImageError, match=r"too large|broken|not an image"):
        read_image(tmp_path / "bomb")


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a.png is a pipe or a device"):
        read_image(tmp_path / "a.png")
    with pytest.raises(ImageError, match="is a pipe or a device"):
        read_image("/dev/zero")
