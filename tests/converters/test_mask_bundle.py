"""Segmentation networks from export to a verified bundle, like landmark networks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_mask
from onnx import numpy_helper
from tiny_mask import candidate, exported, golden, inputs, judged, net, stage
from verify_command import Run

from pocketface.benchmarks.data.drawn_labels import write_drawn
from pocketface.benchmarks.data.face import Face
from pocketface.benchmarks.data.registry import LABELLED
from pocketface.compression.quantize.inputs import with_others
from pocketface.compression.variants import make, precisions
from pocketface.converters.examine import examine
from pocketface.converters.formats.registry import EXPORTERS
from pocketface.converters.parity import backend_of
from pocketface.converters.reference import golden_references, torch_run
from pocketface.converters.verify import verify_bundle, work
from pocketface.sdk.bundle import open_bundle
from pocketface.sdk.errors import BadInputError
from pocketface.sdk.geometry import Box
from pocketface.sdk.mask_predictor import MaskPredictor

NAME = "hourglass_previous"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = [candidate(NAME), candidate(NAME, "onnx", "w8a8")]
    return tiny_mask.write(tmp_path_factory.mktemp("mask") / "bundle", NAME, made)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drawn(tmp_path_factory.mktemp("labels") / "test", count=3, size=64).parent


def test_the_reference_gives_what_the_network_gives() -> None:
    import torch

    given = inputs(NAME, 2, seed=5)
    with torch.no_grad():
        (logits,) = net(NAME)(*(torch.from_numpy(value) for value in given.values()))
    found = torch_run(net(NAME))(given["image"][:1], {"previous": given["previous"][:1]})
    assert np.abs(found["logits"] - logits.numpy()[:1]).max() < 1e-5


def test_a_mask_bundle_passes_verify(bundle: Path, labelled: Path, run: Run) -> None:
    code, out, err = run(bundle)
    assert (code, err) == (0, ""), out
    _, out, _ = run(bundle, "--data", labelled, "--format", "drawn", "--limit", "2")
    assert "2 annotated faces" in out
    assert "mIoU error" in " ".join(out.split())


def test_labelled_pictures_are_judged_against_the_fp32_file(bundle: Path, labelled: Path) -> None:
    steps: list[int] = []
    with open_bundle(bundle) as opened:
        pictures = LABELLED["drawn"](labelled, classes=opened.manifest.stages[0].class_set)
        report = verify_bundle(opened, faces=pictures, progress=steps.append)
        assert steps[-1] == work(opened.manifest, faces=True)
    assert (report.faces, report.reference) == (3, "fp32.onnx")
    fp32, w8a8 = report.variants
    assert fp32.status == "passed"
    assert fp32.task is not None
    assert w8a8.task is not None
    assert fp32.task.nme == fp32.task.nme_reference == w8a8.task.nme_reference
    assert w8a8.task.main.max_error > 0


def test_faces_are_refused_for_masks(bundle: Path) -> None:
    face = Face("one", Path("one.png"), np.zeros((68, 2), np.float32), Box(0, 0, 1, 1))
    with open_bundle(bundle) as opened, pytest.raises(BadInputError, match="a face with landmarks, for masks"):
        verify_bundle(opened, faces=[face])


def test_a_golden_sequence_is_what_the_bundle_gives(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        predictor = MaskPredictor(opened)
    for case in golden(NAME):
        mask = predictor(case["image"], [Box(*case["box"])])[0]
        assert (mask.labels != case["step0.decoded.labels"]).mean() < 1e-3


@pytest.mark.parametrize("part", ["remember.conv.weight", "logits.weight"])
def test_a_file_with_a_wrong_weight_does_not_pass(tmp_path: Path, part: str) -> None:
    """That of the mask before shows only where there is one: in the frames after the first."""
    good = exported(NAME)
    model = onnx.load(good.path)
    tensor = next(item for item in model.graph.initializer if item.name == part)
    tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    path = tmp_path / "bad.onnx"
    onnx.save(model, path)
    references = golden_references(golden(NAME), stage(NAME))
    found = examine(replace(good, path=path), golden=references)
    assert found.status == "failed"
    assert "max error of logits" in found.reason
    first = golden_references(golden(NAME)[:1], stage(NAME))
    assert (examine(replace(good, path=path), golden=first).status == "passed") == (part != "logits.weight")


def test_calibration_without_the_masks_is_refused(tmp_path: Path) -> None:
    shutil.copyfile(exported(NAME).path, tmp_path / "fp32.onnx")
    images = inputs(NAME, 2)["image"]
    given = {"input_size": 32, "fp32": exported(NAME)}
    with pytest.raises(BadInputError, match=r"expected previous \(1, 11, 32, 32\)"):
        make(net(NAME), "onnx", "w8a8", tmp_path, calibration=images, **given)  # type: ignore[arg-type]
    wrong = with_others(images, {"previous": np.zeros((2, 2, 32, 32), np.float32)})
    with pytest.raises(BadInputError, match=r"expected previous \(1, 11, 32, 32\)"):
        make(net(NAME), "onnx", "w8a8", tmp_path, calibration=wrong, **given)  # type: ignore[arg-type]


def test_masks_that_are_shown_in_calibration_count(tmp_path: Path) -> None:
    """Zeros alone would leave the range of the mask before at nothing, and the network without memory."""
    given = inputs(NAME, 8, seed=7)
    empty = with_others(given["image"], {"previous": np.zeros_like(given["previous"])})
    blind = make(net(NAME), "onnx", "w8a8", tmp_path, input_size=32, fp32=exported(NAME), calibration=empty)
    shown, exact = inputs(NAME, 4, seed=8), torch_run(net(NAME))
    errors = []
    for item in (exported(NAME, "onnx", "w8a8"), blind):
        backend, found = backend_of(item), []
        for index in range(4):
            one = {name: value[index : index + 1] for name, value in shown.items()}
            wanted = exact(one["image"], {"previous": one["previous"]})["logits"]
            found.append(np.abs(backend.run(one)["logits"] - wanted).mean())
        errors.append(np.mean(found))
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hourglass", "mobile_segment"])
def test_networks_without_a_previous_mask_pass_too(name: str, tmp_path: Path, run: Run) -> None:
    made = [candidate(name, "onnx", precision) for precision in precisions("onnx")]
    assert made[0].status == "passed"
    assert not golden_references(golden(name), stage(name)).others
    folder = tiny_mask.write(tmp_path / "bundle", name, made, golden=golden(name)[:1])
    assert run(folder)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("format", sorted(EXPORTERS))
def test_every_format_and_precision_agrees_with_torch(format: str) -> None:
    """The registered networks are tried in every format and precision by `pocketface support`."""
    for precision in precisions(format):
        found = candidate("tiny_previous", format, precision)
        assert found.parity is not None, found.reason
        assert found.parity.faces == found.parity.golden_faces + len(judged("tiny_previous"))
        if precision in ("fp32", "fp16"):
            assert found.status == "passed", found.reason
        else:
            # Sixteen values for all weights of a random network say less than 256 for each channel's.
            bound = 0.1 if precision in ("pal4", "w4") else 0.05
            assert found.parity.main.mean_error < bound, precision
