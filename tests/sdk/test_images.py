import contextlib
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pocketface.sdk import images
from pocketface.sdk.errors import BadInputError, ImageError
from pocketface.sdk.images import MAX_PIXELS, read_image, to_rgb, write_image

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def saved(folder: Path, image: Image.Image, name: str = "a.png", **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 4) + b"IDAT" + bytes(8)


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    result = read_image(saved(tmp_path, Image.fromarray(RGB)))
    assert result.dtype == np.uint8
    assert np.array_equal(result, RGB)
    result[0, 0] = 0  # the caller owns it


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_rotation_shows_the_scene_upright(tmp_path: Path, orientation: int) -> None:
    # EXIF 2.3, tag 0x0112: where row 0 and column 0 of the stored image are in the scene.
    stored = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, 1),  # the scene is seen when it is turned 90 degrees clockwise
        7: np.rot90(RGB, 2).transpose(1, 0, 2),
        8: np.rot90(RGB, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(read_image(path), RGB)


def test_grey_and_1_bit(tmp_path: Path) -> None:
    grey = RGB[:, :, 0]
    assert np.array_equal(read_image(saved(tmp_path, Image.fromarray(grey))), np.stack([grey] * 3, axis=-1))
    bits = grey > 127
    assert np.array_equal(
        read_image(saved(tmp_path, Image.fromarray(bits))), np.stack([bits * 255] * 3, axis=-1).astype(np.uint8)
    )


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert read_image(saved(tmp_path, image)).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1))
    for x, pixel in enumerate([(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 51)]):
        image.putpixel((x, 0), pixel)
    assert read_image(saved(tmp_path, image)).tolist() == [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    path = saved(tmp_path, palette, transparency=1)
    assert read_image(path).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    grey = saved(tmp_path, Image.fromarray(np.array([[[80, 255], [80, 0]]], np.uint8), "LA"))
    assert read_image(grey).tolist() == [[[80] * 3, [255] * 3]]


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 30000, 65535]], np.uint16)
    result = read_image(saved(tmp_path, Image.fromarray(values)))
    assert result[0, :, 0].tolist() == [0, 0, 1, 1, 117, 255]  # round(v * 255 / 65535)
    assert read_image(saved(tmp_path, Image.fromarray(values), "a.tif"))[0, :, 1].tolist() == [0, 0, 1, 1, 117, 255]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    red = read_image(saved(tmp_path, ink, "a.jpg", quality=100)).astype(int)
    assert np.abs(red - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "HSV", "RGBX", "RGBa", "La"])
def test_other_modes_of_pillow_images(mode: str) -> None:
    image = Image.new("RGBA", (4, 3), (120, 120, 120, 255))
    steps = {"LAB": ["RGB", "LAB"], "La": ["LA", "La"], "RGBa": ["RGBa"]}.get(mode, ["RGB", mode])
    try:
        for step in steps:
            image = image.convert(step)
    except ValueError:
        image = Image.new(mode, (4, 3))
        assert to_rgb(image).shape == (3, 4, 3)
        return
    assert np.abs(to_rgb(image).astype(int) - 120).max() <= 1


def test_values_without_a_known_range_are_refused(tmp_path: Path) -> None:
    for dtype in (np.float32, np.int32):
        path = saved(tmp_path, Image.fromarray(np.ones((2, 2), dtype)), "a.tif")
        with pytest.raises(ImageError, match="expected 8 or 16 bits a channel"):
            read_image(path)


def test_one_pixel(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path, Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_of_an_animation_the_first_frame_is_read(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
    assert np.abs(read_image(path).astype(int) - (255, 0, 0)).max() <= 3


def test_missing_empty_folder_and_text(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    cases = {"no.jpg": "no such file", "empty.jpg": "is empty", "text.jpg": "not an image", ".": "is a folder"}
    for name, message in cases.items():
        with pytest.raises(ImageError, match=message) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path) in str(caught.value)
        assert caught.value.next


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif", "a.bmp", "a.tif"])
def test_no_truncated_file_gives_half_a_picture(tmp_path: Path, name: str) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    data = saved(tmp_path, noise, name).read_bytes()
    whole = read_image(tmp_path / name)
    for share in (0.02, 0.3, 0.6, 0.9):
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        with contextlib.suppress(ImageError):
            assert np.array_equal(read_image(tmp_path / name), whole)  # what was cut off held no pixels
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=str(tmp_path)):
        read_image(tmp_path / name)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on broken tags
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif", "a.bmp", "a.tif"])
def test_damaged_files_give_a_picture_or_an_image_error(tmp_path: Path, name: str) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8))
    data = saved(tmp_path, noise, name).read_bytes()
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        for position in rng.integers(0, min(len(data), 200), 3):
            damaged[position] = rng.integers(0, 256)
        (tmp_path / name).write_bytes(damaged)
        try:
            assert read_image(tmp_path / name).dtype == np.uint8
        except ImageError:
            refused += 1
    assert refused > 0


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(9_000, 9_000), (10_000, 10_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(*size))
    with pytest.raises(ImageError, match=f"too large.*at most {MAX_PIXELS} pixels"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("name", ["a.png", "a.bmp"])
def test_write_then_read(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, RGB)
    assert np.array_equal(read_image(tmp_path / name), RGB)
    with pytest.raises(BadInputError, match="--force"):
        write_image(tmp_path / name, RGB)
    write_image(tmp_path / name, RGB[:2], force=True)
    assert np.array_equal(read_image(tmp_path / name), RGB[:2])


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp"])
def test_write_lossy(tmp_path: Path, name: str) -> None:
    smooth = np.full((32, 32, 3), (200, 120, 60), np.uint8)
    write_image(tmp_path / name, smooth)
    assert np.abs(read_image(tmp_path / name).astype(int) - smooth).max() <= 4


def test_write_refuses_unknown_suffixes_and_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"type '.xyz'. Valid: .png, .jpg"):
        write_image(tmp_path / "a.xyz", RGB)
    for array in (RGB[:, :, 0], RGB.astype(np.float32), RGB[:0], [[1]]):
        with pytest.raises(BadInputError, match=r"expected \(height, width, 3\) uint8"):
            write_image(tmp_path / "a.png", array)
    assert list(tmp_path.iterdir()) == []


def test_writers_name_real_formats() -> None:
    Image.init()
    assert set(images.WRITERS.values()) <= set(Image.SAVE)


def test_importing_the_sdk_imports_neither_pillow_nor_a_command_line() -> None:
    code = "import sys, pocketface.sdk; print({'PIL', 'typer', 'rich', 'importlib.metadata'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
