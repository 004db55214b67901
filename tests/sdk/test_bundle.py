import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundle_factory import edit_manifest, make_bundle, replace_file

from pocketface.sdk import bundle as bundles
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BundleError, EnvironmentProblemError

MODEL, CASE = "models/tiny.fp32.onnx", "golden/000.npz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle", size=16, points=4, variants=("fp32.onnx", "fp16.coreml"))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(folder)
    assert caught.value.exit_code == 2
    assert caught.value.next


def test_opens(folder: Path) -> None:
    with open_bundle(str(folder)) as bundle:
        assert bundle.root == folder
        assert bundle.manifest.name == "tiny"
        onnx_variant, coreml = bundle.manifest.stages[0].variants
        assert bundle.variant_path(onnx_variant) == folder / MODEL
        assert bundle.variant_path(coreml) == folder / "models" / "tiny.fp16.coreml"
        assert bundle.path(bundle.manifest.card).read_text().startswith("# tiny")
    assert folder.exists()  # closing removes only what was unpacked


def test_files_elsewhere_and_x_keys_are_ignored(folder: Path) -> None:
    (folder / "report.html").write_text("<html>")
    edit_manifest(folder, lambda raw: raw.update({"x-signature": "later"}))
    open_bundle(folder)


def test_a_link_to_the_bundle_folder_is_the_users_own(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    open_bundle(tmp_path / "link")


def test_no_such_bundle(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "no such bundle, expected a bundle folder or a .pface file")
    refused(tmp_path, "holds no manifest.json")


def test_a_run_folder_points_to_its_bundle(folder: Path) -> None:
    refused(folder.parent, f"Did you mean {folder}")


@pytest.mark.parametrize("path", [MODEL, CASE, "card.md", "models/tiny.fp16.coreml/Data/weights.bin"])
class TestEveryFile:
    def test_missing(self, folder: Path, path: str) -> None:
        (folder / path).unlink()
        refused(folder, f"{path} is missing")

    def test_truncated(self, folder: Path, path: str) -> None:
        data = (folder / path).read_bytes()
        (folder / path).write_bytes(data[:-1])
        refused(folder, f"{path} has {len(data) - 1} bytes, expected {len(data)}")

    def test_longer(self, folder: Path, path: str) -> None:
        with open(folder / path, "ab") as file:
            file.write(b"x")
        refused(folder, f"{path} has .* bytes")

    def test_one_bit_flipped(self, folder: Path, path: str) -> None:
        data = bytearray((folder / path).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / path).write_bytes(data)
        refused(folder, f"{path} has SHA-256")

    def test_a_link(self, folder: Path, path: str, tmp_path: Path) -> None:
        (folder / path).rename(tmp_path / "elsewhere")
        (folder / path).symlink_to(tmp_path / "elsewhere")
        refused(folder, f"{path} is a link")

    def test_a_folder(self, folder: Path, path: str) -> None:
        (folder / path).unlink()
        (folder / path).mkdir()
        refused(folder, f"{path} is (no plain file|missing)")

    def test_a_pipe_is_refused_without_waiting_for_it(self, folder: Path, path: str) -> None:
        (folder / path).unlink()
        os.mkfifo(folder / path)
        refused(folder, f"{path} is no plain file")


def test_a_linked_folder_inside(folder: Path, tmp_path: Path) -> None:
    (folder / "golden").rename(tmp_path / "elsewhere")
    (folder / "golden").symlink_to(tmp_path / "elsewhere")
    refused(folder, "is a link")


def test_a_linked_manifest(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.json").rename(tmp_path / "m.json")
    (folder / "manifest.json").symlink_to(tmp_path / "m.json")
    refused(folder, "manifest.json is a link")


@pytest.mark.parametrize("path", ["models/extra.onnx", "golden/999.npz", "models/tiny.fp16.coreml/x", "models/new/x"])
def test_unlisted_files_where_a_runtime_could_pick_them_up(folder: Path, path: str) -> None:
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_bytes(b"")
    refused(folder, f"{path} is not listed in manifest.json")


def test_unlisted_links(folder: Path) -> None:
    (folder / "models" / "x").symlink_to("/etc")
    refused(folder, "models/x is a link")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(schema=99), "schema 99, expected 1 or older.*Update pocketface"),
        (lambda raw: raw.update(colour="red"), "unknown field `colour`"),
        (lambda raw: raw["card"].update(path="../card.md"), "'../card.md' is not allowed"),
        (lambda raw: raw["card"].update(path="/etc/passwd"), "'/etc/passwd' is not allowed"),
        (lambda raw: raw.update(golden=[]), "no golden cases"),
        (lambda raw: raw["golden"].pop(), "golden/001.npz is not listed"),
        (lambda raw: raw.update(default="w4"), "default variant 'w4'"),
    ],
)
def test_manifest(folder: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    refused(edit_manifest(folder, change), message)


def test_a_huge_manifest_is_not_read(folder: Path) -> None:
    with open(folder / "manifest.json", "ab") as file:
        file.truncate(9 * 2**20)
    refused(folder, "manifest.json is too large")


def test_onnx_with_external_data(folder: Path) -> None:
    model = onnx.load(folder / MODEL)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../secret")
    replace_file(folder, MODEL, model.SerializeToString())
    refused(folder, f"{MODEL} keeps tensors in other files")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(folder: Path) -> None:
    (folder / MODEL).chmod(0)
    with pytest.raises(EnvironmentProblemError, match="permission denied"):
        open_bundle(folder)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def case(folder: Path) -> dict[str, Any]:
    with np.load(folder / CASE) as arrays:
        return dict(arrays)


def test_golden(folder: Path) -> None:
    cases = open_bundle(folder).golden()
    assert len(cases) == 2
    first = cases[0]
    assert first["image"].dtype == np.uint8
    assert first["box"].tolist() == [20, 8, 71, 59]
    assert first["step0.input.image"].shape == (1, 3, 16, 16)
    assert first["step0.output.points"].shape == (1, 4, 2)
    assert first["step0.decoded.points"].shape == (4, 2)
    assert first["step0.decoded.score"].shape == ()
    assert not np.array_equal(first["image"], cases[1]["image"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("box"), "array 'box' is missing"),
        (lambda c: c.pop("step0.output.score"), "array 'step0.output.score' is missing"),
        (lambda c: c.update(image=c["image"].astype(np.float32)), "array 'image' is float32 .*expected uint8"),
        (lambda c: c.update({"step0.output.points": np.zeros((1, 5, 2), np.float32)}), r"expected float32 \(1, 4, 2\)"),
        (lambda c: c.update(box=np.zeros(5)), r"array 'box' is float64 \(5,\)"),
        (lambda c: c.update(box=np.array([9.0, 5, 9, 20])), "golden/000.npz: box .* has no area, expected x0 < x1"),
        (lambda c: c.update(box=np.array([9.0, 5, np.nan, 20])), "golden/000.npz: array 'box' holds NaN"),
        (lambda c: c.update(box=np.array([5e3, 5e3, 6e3, 6e3])), "golden/000.npz: box .* lies outside the image"),
        (lambda c: c.update(box=np.array([None])), "no readable golden case.*allow_pickle"),
    ],
)
def test_golden_cases_without_what_they_need(
    folder: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    arrays = case(folder)
    change(arrays)
    bundle = open_bundle(replace_file(folder, CASE, npz(**arrays)))
    with pytest.raises(BundleError, match=message):
        bundle.golden()


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x05\x06" + bytes(18), b"\x93NUMPY\x01\x00"])
def test_golden_cases_that_are_no_npz(folder: Path, data: bytes) -> None:
    bundle = open_bundle(replace_file(folder, CASE, data))
    with pytest.raises(BundleError, match=r"golden/000.npz"):
        bundle.golden()


def test_a_golden_bomb_is_not_unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_GOLDEN_BYTES", 10**6)
    assert len(open_bundle(folder).golden()) == 2
    data = npz(**case(folder), bomb=np.zeros(2 * 10**6, np.uint8))
    bundle = open_bundle(replace_file(folder, CASE, data))
    with pytest.raises(BundleError, match=r"unpacks to .* bytes, expected at most 1000000"):
        bundle.golden()


def test_a_golden_case_changed_after_opening(folder: Path) -> None:
    bundle = open_bundle(folder)
    data = bytearray((folder / CASE).read_bytes())
    data[100] ^= 1
    (folder / CASE).write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256"):
        bundle.golden()
