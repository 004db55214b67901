"""The mil-reference executor on packages that coremltools wrote: whole networks, traces, and what it refuses."""

from __future__ import annotations

import functools
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tiny_export
import torch

from pocketface.converters.mil_reference.reference import MilReference, UnknownOperationError
from pocketface.sdk.errors import BadInputError, BundleError
from pocketface.sdk.manifest import Binding, FileEntry, Tolerances, Variant

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
MODEL = "Data/com.apple.CoreML/model.mlmodel"


def variant(inputs, outputs, files=(), precision="fp32"):
    """A coreml variant with these bindings."""
    return Variant(
        id=f"{precision}.coreml",
        format="coreml",
        precision=precision,
        files=tuple(files),
        inputs=dict(inputs),
        outputs=dict(outputs),
        tolerances=Tolerances(),
        status="unverified",
    )


def executor(exported, path=None, files=()):
    """The executor of an exported file, or of a changed copy of it."""
    return MilReference(path or exported.path, variant(exported.inputs, exported.outputs, files, exported.precision))


@functools.cache
def tiny(precision="fp32"):
    return executor(tiny_export.exported("coreml", precision))


@pytest.fixture
def copy(tmp_path):
    """A copy of the tiny network's package, to break."""
    return Path(shutil.copytree(tiny_export.exported("coreml").path, tmp_path / "copy.mlpackage"))


def error(got, want):
    return np.abs(got - want).max() / np.abs(want).max()


def errors(run):
    """Largest relative error of points and of scores, over a few pictures."""
    images = tiny_export.inputs(4, seed=11)
    got = [run({"image": image[None]}) for image in images]
    points, score = tiny_export.torch_outputs(images)
    found = np.concatenate([item["points"] for item in got]), np.concatenate([item["score"] for item in got])
    return error(found[0], points), error(found[1], score)


def edit_spec(path, change):
    """Rewrite a package's model description."""
    from coremltools.proto import Model_pb2

    file = path / MODEL
    spec = Model_pb2.Model.FromString(file.read_bytes())
    change(spec.mlProgram.functions["main"].block_specializations["CoreML5"], spec)
    file.write_bytes(spec.SerializeToString())


# --- whole networks


def test_fp32_agrees_with_torch():
    assert max(errors(tiny().run)) < 1e-6
    assert tiny().executor == "mil-reference 1"


def test_fp16_agrees_with_torch_as_far_as_half_precision_goes():
    found = errors(tiny("fp16").run)
    assert 1e-5 < max(found) < 2e-3


def test_a_run_leaves_nothing_behind_for_the_next_one():
    first, second = tiny_export.inputs(2, seed=3)
    before = tiny().run({"image": first[None]})["points"]
    tiny().run({"image": second[None]})
    assert np.array_equal(tiny().run({"image": first[None]})["points"], before)


def test_the_package_is_not_needed_after_construction(copy):
    run = executor(tiny_export.exported("coreml"), copy)
    shutil.rmtree(copy)
    assert max(errors(run.run)) < 1e-6


# --- traces


def test_a_trace_holds_every_tensor_in_order_and_ends_with_the_outputs():
    image = tiny_export.inputs(1, seed=4)
    traced = tiny().trace({"image": image})
    kinds = [item.operation for item in traced]
    assert kinds.count("conv") == 5
    assert kinds.count("clip") == 5
    assert "const" not in kinds
    assert all(item.value.dtype == np.float32 for item in traced)
    outputs = tiny().run({"image": image})
    for name in ("points", "score"):
        assert np.array_equal(next(item.value for item in traced if item.name == name), outputs[name])


def test_traced_convolutions_are_those_of_torch():
    net, seen = tiny_export.tiny_net(), []
    hooks = [block[2].register_forward_hook(lambda _m, _i, output: seen.append(output)) for block in net.features]
    image = tiny_export.inputs(1, seed=5)
    with torch.no_grad():
        net(torch.from_numpy(image.copy()))
    for hook in hooks:
        hook.remove()
    clips = [item.value for item in tiny().trace({"image": image}) if item.operation == "clip"]
    for got, want in zip(clips, seen, strict=True):
        assert error(got, want.numpy()) < 1e-6


def test_fp16_tensors_hold_half_precision_values_only():
    traced = tiny("fp16").trace({"image": tiny_export.inputs(1, seed=6)})
    halves = [item for item in traced if item.dtype == "float16"]
    assert len(halves) > 10
    for item in halves:
        assert np.array_equal(item.value, item.value.astype(np.float16))


# --- changed and broken packages


def test_a_flipped_weight_is_beyond_the_fp32_gate(copy):
    file = copy / WEIGHTS
    data = bytearray(file.read_bytes())
    start = struct.unpack_from("<Q", data, 64 + 16)[0]
    data[start + 3] ^= 0x80  # the sign of the first constant's first number
    file.write_bytes(data)
    assert max(errors(executor(tiny_export.exported("coreml"), copy).run)) > 1e-5


def test_files_that_the_manifest_lists_must_have_its_hashes(copy):
    exported = tiny_export.exported("coreml")
    entry = FileEntry(path=f"models/copy.mlpackage/{WEIGHTS}", bytes=1, sha256="0" * 64)
    with pytest.raises(BundleError, match=r"weight\.bin is not the file the manifest describes"):
        executor(exported, copy, [entry])


@pytest.mark.parametrize("kept", [10, 100, 5000, -4])
def test_a_truncated_weight_file_is_refused(copy, kept):
    file = copy / WEIGHTS
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(BundleError, match=r"weight\.bin .*expected"):
        executor(tiny_export.exported("coreml"), copy)


def first_stored(block):
    return next(
        op.attributes["val"].blobFileValue
        for op in block.operations
        if op.type == "const" and op.attributes["val"].WhichOneof("value") == "blobFileValue"
    )


@pytest.mark.parametrize(
    ("offset", "message"), [(10**9, "has no entry"), (0, "has no entry"), (72, "the mark 0xdeadbeef")]
)
def test_an_offset_that_is_no_entry_is_refused(copy, offset, message):
    edit_spec(copy, lambda block, _: setattr(first_stored(block), "offset", offset))
    with pytest.raises(BundleError, match=message):
        executor(tiny_export.exported("coreml"), copy)


@pytest.mark.parametrize("place", ["@model_path/../../../secret.bin", "/etc/passwd", "@model_path//etc/passwd"])
def test_weights_outside_of_the_package_are_refused(copy, place):
    (copy.parent / "secret.bin").write_bytes((copy / WEIGHTS).read_bytes())
    edit_spec(copy, lambda block, _: setattr(first_stored(block), "fileName", place))
    with pytest.raises(BundleError, match=r"takes weights from|names the file|has no file"):
        executor(tiny_export.exported("coreml"), copy)


def test_a_link_out_of_the_package_is_refused(copy):
    file = copy / WEIGHTS
    file.rename(copy.parent / "secret.bin")
    file.symlink_to(copy.parent / "secret.bin")
    with pytest.raises(BundleError, match="stays in the package"):
        executor(tiny_export.exported("coreml"), copy)


def test_an_unknown_operation_is_refused_on_construction(copy):
    def change(block, _):
        next(op for op in block.operations if op.type == "clip").type = "bend"

    edit_spec(copy, change)
    with pytest.raises(
        UnknownOperationError, match=r"'bend' \(.+\) is unknown to mil-reference\. Valid: .*conv.*kernel"
    ):
        executor(tiny_export.exported("coreml"), copy)


def test_an_unknown_parameter_is_refused_on_construction(copy):
    def change(block, _):
        clip = next(op for op in block.operations if op.type == "clip")
        clip.inputs["gamma"].CopyFrom(clip.inputs["alpha"])

    edit_spec(copy, change)
    with pytest.raises(UnknownOperationError, match=r"parameter 'gamma' of 'clip'.*alpha, beta"):
        executor(tiny_export.exported("coreml"), copy)


def test_a_tensor_that_nothing_gives_is_refused_on_construction(copy):
    def change(block, _):
        next(op for op in block.operations if op.type == "clip").inputs["x"].arguments[0].name = "nowhere"

    edit_spec(copy, change)
    with pytest.raises(BundleError, match="nothing before it gives the tensor 'nowhere'"):
        executor(tiny_export.exported("coreml"), copy)


def test_an_operation_that_gives_another_shape_than_declared_is_refused(copy):
    def change(block, _):
        stride = next(op for op in block.operations if op.outputs[0].name.endswith("strides_0"))
        stride.attributes["val"].immediateValue.tensor.ints.values[:] = [1, 1]

    edit_spec(copy, change)
    run = executor(tiny_export.exported("coreml"), copy)
    with pytest.raises(BundleError, match=r"'conv' \(.+\) cannot be executed \(it gives .* is declared\)"):
        run.run({"image": tiny_export.inputs(1)})


def test_a_folder_that_is_no_package_is_refused(copy):
    exported = tiny_export.exported("coreml")
    with pytest.raises(BundleError, match="is not a folder"):
        executor(exported, copy / "Manifest.json")
    (copy / MODEL).write_bytes(b"\xff\xff")
    with pytest.raises(BundleError, match="is no model"):
        executor(exported, copy)
    (copy / "Manifest.json").write_text(json.dumps({"itemInfoEntries": {}}))
    with pytest.raises(BundleError, match="names no model"):
        executor(exported, copy)
    (copy / "Manifest.json").unlink()
    with pytest.raises(BundleError, match=r"no file 'Manifest\.json'"):
        executor(exported, copy)


def test_a_package_of_another_kind_is_refused(copy):
    def change(_, spec):
        spec.ClearField("mlProgram")
        spec.identity.SetInParent()

    edit_spec(copy, change)
    with pytest.raises(BundleError, match="holds a identity, expected an ML program"):
        executor(tiny_export.exported("coreml"), copy)


# --- bindings and inputs


def test_bindings_must_be_those_of_the_file():
    exported = tiny_export.exported("coreml")
    image = exported.inputs["image"]
    with pytest.raises(BundleError, match="no input 'picture'"):
        MilReference(exported.path, variant({"image": Binding(tensor="picture", shape=image.shape)}, exported.outputs))
    bigger = Binding(tensor="image", shape=(1, 3, 64, 64))
    with pytest.raises(BundleError, match=r"input 'image' is \(1, 3, 32, 32\) in the file"):
        MilReference(exported.path, variant({"image": bigger}, exported.outputs))
    with pytest.raises(BundleError, match="no output 'mask'"):
        MilReference(exported.path, variant(exported.inputs, {"mask": Binding(tensor="mask", shape=(1,))}))
    with pytest.raises(BundleError, match="is in no binding"):
        MilReference(exported.path, variant({}, exported.outputs))


def test_inputs_must_be_those_of_the_bindings():
    with pytest.raises(BadInputError, match="'image' is missing"):
        tiny().run({})
    with pytest.raises(BadInputError, match="has shape"):
        tiny().run({"image": np.zeros((1, 3, 31, 32), np.float32)})
