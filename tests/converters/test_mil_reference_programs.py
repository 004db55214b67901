"""mil-reference on programs made by hand with coremltools' builder: compressed weights in every stored form, pictures
as inputs, and operations that torch's exporter does not emit.

coremltools writes the files; torch, numpy and coremltools' own decompression say what should come out.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tiny_export
import torch
import torch.nn.functional as F
from torch.nn.utils import fusion

from pocketface.converters.mil_reference.blob import WeightFile
from pocketface.converters.mil_reference.reference import MilReference
from pocketface.sdk.manifest import Binding, Tolerances, Variant

RNG = np.random.default_rng(1)
CONV = RNG.normal(size=(16, 8, 3, 3)).astype(np.float32)
LINEAR = RNG.normal(size=(64, 64)).astype(np.float32)
X = RNG.normal(size=(1, 8, 8, 8)).astype(np.float32)


@functools.cache
def coremltools():
    import coremltools
    import coremltools.optimize.coreml

    return coremltools


def converted(program, target, precision="fp32", inputs=None):
    ct = coremltools()
    return ct.convert(
        program,
        convert_to="mlprogram",
        inputs=inputs,
        skip_model_load=True,
        minimum_deployment_target=target,
        compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
    )


def saved(model, path, inputs=None, shapes=None):
    """Write a model and load it in the executor; all of its outputs are bound under their own names."""
    model.save(str(path))
    description = model.get_spec().description
    bindings = inputs or {
        feature.name: Binding(tensor=feature.name, shape=tuple(feature.type.multiArrayType.shape))
        for feature in description.input
    }
    outputs = {
        feature.name: Binding(
            tensor=feature.name, shape=(shapes or {}).get(feature.name, tuple(feature.type.multiArrayType.shape))
        )
        for feature in description.output
    }
    return MilReference(
        path,
        Variant(
            id="fp32.coreml",
            format="coreml",
            precision="fp32",
            files=(),
            inputs=bindings,
            outputs=outputs,
            tolerances=Tolerances(),
            status="unverified",
        ),
    )


def agree(got, want, tolerance=2e-6):
    want = np.asarray(want)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= tolerance * max(1.0, float(np.abs(want).max()))


# --- weights in fewer bits


@functools.cache
def small_model(target_name):
    """x -> convolution -> mean -> four times -> linear, in fp32."""
    ct = coremltools()
    mb = ct.converters.mil.Builder

    target = getattr(ct.target, target_name)

    @mb.program(input_specs=[mb.TensorSpec((1, 8, 8, 8))], opset_version=target)
    def program(x):
        y = mb.reduce_mean(x=mb.conv(x=x, weight=CONV, pad_type="same"), axes=[2, 3])
        return mb.linear(x=mb.concat(values=(y, y, y, y), axis=1), weight=LINEAR, name="out")

    return converted(program, target)


def forward(conv, linear):
    y = F.conv2d(torch.from_numpy(X), torch.from_numpy(conv), padding="same").mean((2, 3)).repeat(1, 4)
    return F.linear(y, torch.from_numpy(linear)).numpy()


def compressed(model, kind, *, weight_threshold=10, joint=False, **options):
    optimize = coremltools().optimize.coreml
    functions = {
        "quantize": (optimize.linear_quantize_weights, optimize.OpLinearQuantizerConfig),
        "palettize": (optimize.palettize_weights, optimize.OpPalettizerConfig),
        "prune": (optimize.prune_weights, optimize.OpMagnitudePrunerConfig),
    }
    function, config = functions[kind]
    settings = optimize.OptimizationConfig(config(weight_threshold=weight_threshold, **options))
    return function(model, settings, **({"joint_compression": True} if joint else {}))


HALF = ("prune", {"target_sparsity": 0.5})
FORMS = {
    "int8 per channel": ("iOS16", [("quantize", {"mode": "linear_symmetric"})]),
    "uint8 with zero points": ("iOS16", [("quantize", {"mode": "linear", "dtype": "uint8"})]),
    "palette of 16": ("iOS16", [("palettize", {"mode": "uniform", "nbits": 4})]),
    "palette of 64": ("iOS16", [("palettize", {"mode": "uniform", "nbits": 6})]),
    "sparse": ("iOS16", [HALF]),
    "int4 in blocks": (
        "iOS18",
        [("quantize", {"mode": "linear_symmetric", "dtype": "int4", "granularity": "per_block", "block_size": 8})],
    ),
    "uint4 as a whole": ("iOS18", [("quantize", {"mode": "linear", "dtype": "uint4", "granularity": "per_tensor"})]),
    "palettes of groups": (
        "iOS18",
        [("palettize", {"mode": "uniform", "nbits": 3, "granularity": "per_grouped_channel", "group_size": 4})],
    ),
    "palette of vectors": ("iOS18", [("palettize", {"mode": "kmeans", "nbits": 2, "cluster_dim": 4})]),
    "palette with scales": (
        "iOS18",
        [("palettize", {"mode": "uniform", "nbits": 6, "enable_per_channel_scale": True})],
    ),
    "sparse palette": ("iOS18", [HALF, ("palettize", {"mode": "uniform", "nbits": 4, "joint": True})]),
    "sparse int8": ("iOS18", [HALF, ("quantize", {"joint": True})]),
}


@pytest.mark.parametrize("form", FORMS)
def test_compressed_weights_are_those_of_coremltools_own_decompression(form, tmp_path):
    target, steps = FORMS[form]
    model = small_model(target)
    for kind, options in steps:
        model = compressed(model, kind, **options)
    kinds = {op.op_type for op in model._mil_program.functions["main"].operations if "constexpr" in op.op_type}
    assert kinds
    dense = coremltools().optimize.coreml.decompress_weights(model)._mil_program.functions["main"]
    conv, linear = (dense.find_ops(op_type=kind)[0].weight.val for kind in ("conv", "linear"))
    assert np.abs(conv - CONV).max() > 1e-4  # it was really compressed
    agree(saved(model, tmp_path / "net.mlpackage").run({"x": X})["out"], forward(conv, linear))


def fused_tiny(change):
    """The tiny network with its batch norms folded as the converter does, its large weights changed."""
    net = tiny_export.TinyNet()
    net.load_state_dict(tiny_export.tiny_net().state_dict())
    net.eval()
    for block in net.features:
        block[0], block[1] = fusion.fuse_conv_bn_eval(block[0], block[1]), torch.nn.Identity()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1 and parameter.numel() > 2048:
                parameter.copy_(torch.from_numpy(change(parameter.numpy())))
    return net


def eight_bits(weight):
    """Symmetric, one scale a filter, from the definition."""
    scale = np.abs(weight).reshape(len(weight), -1).max(1).reshape(-1, *(1,) * (weight.ndim - 1)) / 127
    return (np.rint(weight / scale) * scale).astype(np.float32)


def sixteen_values(weight):
    """The nearest of 16 values, evenly spaced from the smallest to the largest."""
    palette = np.linspace(weight.min(), weight.max(), 16)
    return palette[np.abs(weight[..., None] - palette).argmin(-1)].astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "options", "change"),
    [
        ("quantize", {"mode": "linear_symmetric"}, eight_bits),
        ("palettize", {"mode": "uniform", "nbits": 4}, sixteen_values),
    ],
)
def test_the_tiny_network_with_compressed_weights_is_torch_with_these_weights(kind, options, change, tmp_path):
    exported = tiny_export.exported("coreml")
    model = coremltools().models.MLModel(str(exported.path), skip_model_load=True)
    small = compressed(model, kind, weight_threshold=2048, **options)
    run = saved(small, tmp_path / "net.mlpackage")
    image = tiny_export.inputs(1, seed=8)
    with torch.no_grad():
        wanted = fused_tiny(change)(torch.from_numpy(image.copy()))
        plain = tiny_export.tiny_net()(torch.from_numpy(image.copy()))
    got = run.run({"image": image})
    for name, value, exact in zip(("points", "score"), wanted, plain, strict=True):
        scale = value.abs().max()
        assert np.abs(got[name] - value.numpy()).max() / scale < 1e-5
        assert (value - exact).abs().max() / scale > 1e-4


@pytest.mark.parametrize("dtype", ["int4", "uint1", "uint2", "uint3", "uint4", "uint6", "int8", "uint8", "int32"])
def test_numbers_in_weight_files_are_read_as_coremltools_wrote_them(dtype, tmp_path):
    from coremltools.libmilstoragepython import _BlobStorageWriter

    bits = int(dtype.lstrip("uint"))
    low, high = (0, 2**bits) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    values = RNG.integers(low, high, 37).astype(np.int32 if bits == 32 else np.int8 if low else np.uint8)
    writer = _BlobStorageWriter(str(tmp_path / "weight.bin"))
    offset = getattr(writer, f"write_{dtype}_data")(values)
    del writer
    file = WeightFile((tmp_path / "weight.bin").read_bytes(), "weight.bin")
    assert np.array_equal(file.read(offset, dtype, (37,)), values)


# --- pictures and integers


@pytest.mark.parametrize("colours", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_picture_inputs_take_pixels(colours, layout, tmp_path):
    ct = coremltools()
    net = torch.nn.Conv2d(3, 4, 3).eval()
    picture = ct.ImageType(name="image", shape=(1, 3, 8, 10), color_layout=getattr(ct.colorlayout, colours))
    model = converted(torch.jit.trace(net, torch.zeros(1, 3, 8, 10)), ct.target.iOS15, inputs=[picture])
    shape = (1, 3, 8, 10) if layout == "NCHW" else (1, 8, 10, 3)
    binding = Binding(tensor="image", shape=shape, dtype="uint8", layout=layout)
    name = model.get_spec().description.output[0].name
    run = saved(model, tmp_path / "net.mlpackage", {"image": binding}, {name: (1, 4, 6, 8)})
    assert run.images == {"image": colours}
    pixels = RNG.integers(0, 256, (1, 3, 8, 10)).astype(np.uint8)
    with torch.no_grad():
        agree(run.run({"image": pixels})[name], net(torch.from_numpy(pixels).float()).numpy())


def test_quantized_activations_agree_with_torch(tmp_path):
    ct = coremltools()
    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec((1, 8, 8, 8))], opset_version=ct.target.iOS17)
    def program(x):
        y = mb.quantize(input=x, scale=np.float32(0.02), zero_point=np.uint8(100), output_dtype="uint8")
        y = mb.dequantize(input=y, scale=np.float32(0.02), zero_point=np.uint8(100), name="whole")
        scales = np.linspace(0.01, 0.03, 8).astype(np.float32)
        z = mb.quantize(input=x, scale=scales, output_dtype="int8", axis=1)
        return y, mb.dequantize(input=z, scale=scales, axis=1, name="channels")

    got = saved(converted(program, ct.target.iOS17), tmp_path / "net.mlpackage").run({"x": X})
    x = torch.from_numpy(X)
    agree(got["whole"], torch.fake_quantize_per_tensor_affine(x, 0.02, 100, 0, 255))
    scales = torch.linspace(0.01, 0.03, 8)
    wanted = torch.fake_quantize_per_channel_affine(x, scales, torch.zeros(8, dtype=torch.int32), 1, -128, 127)
    agree(got["channels"], wanted)


# --- operations as coremltools writes them: names and defaults of parameters, several outputs, tuples


def test_a_program_of_many_operations_agrees_with_torch(tmp_path):
    ct = coremltools()
    mb = ct.converters.mil.Builder

    def operations(x):
        mil = {
            "resized": mb.resize_bilinear(
                x=x, target_size_height=12, target_size_width=20, sampling_mode="UNALIGN_CORNERS"
            ),
            "larger": mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=3, align_corners=True),
            "repeated": mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=2),
            "average": mb.avg_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
            "largest": mb.max_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid"),
            "normal": mb.instance_norm(x=x, gamma=np.ones(8, np.float32), beta=np.zeros(8, np.float32)),
            "layer": mb.layer_norm(x=x, axes=[-1]),
            "transposed": mb.conv_transpose(
                x=x, weight=CONV[:8].copy(), strides=[2, 2], pad_type="custom", pad=[1] * 4
            ),
            "part": mb.slice_by_index(
                x=x, begin=[0, 1, 0, 0], end=[1, 5, 0, -1], stride=[1, 2, 1, 1], end_mask=[False, False, True, False]
            ),
            "shuffled": mb.pixel_shuffle(x=x, upscale_factor=2),
            "soft": mb.softmax(x=x, axis=1),
            "hard": mb.mul(x=x, y=mb.sigmoid_hard(x=x, alpha=1 / 6, beta=0.5)),
            "best": mb.cast(x=mb.reduce_argmax(x=x, axis=1), dtype="fp32"),
            "stacked": mb.stack(values=mb.split(x=x, num_splits=4, axis=1), axis=0),
            "product": mb.matmul(x=x, y=x, transpose_y=True),
            "chosen": mb.select(cond=mb.greater(x=x, y=np.float32(0)), a=x, b=mb.square(x=x)),
            "gathered": mb.gather(x=x, indices=[3, 1], axis=1),
        }
        return tuple(mb.identity(x=value, name=name) for name, value in mil.items())

    program = mb.program(input_specs=[mb.TensorSpec((1, 8, 8, 8))], opset_version=ct.target.iOS15)(operations)
    run = saved(converted(program, ct.target.iOS15), tmp_path / "net.mlpackage")
    got, x = run.run({"x": X}), torch.from_numpy(X)
    wanted = {
        "resized": F.interpolate(x, (12, 20), mode="bilinear"),
        "larger": F.interpolate(x, scale_factor=(2, 3), mode="bilinear", align_corners=True),
        "repeated": F.interpolate(x, scale_factor=2),
        "average": F.avg_pool2d(x, 3, 2, 1),
        "largest": F.max_pool2d(x, 2),
        "normal": F.instance_norm(x),
        "layer": F.layer_norm(x, (8,)),
        "transposed": F.conv_transpose2d(x, torch.from_numpy(CONV[:8]), stride=2, padding=1),
        "part": x[0:1, 1:5:2, :, :-1],
        "shuffled": F.pixel_shuffle(x, 2),
        "soft": x.softmax(1),
        "hard": F.hardswish(x),
        "best": x.argmax(1),
        "stacked": torch.stack(x.chunk(4, 1)),
        "product": x @ x.mT,
        "chosen": torch.where(x > 0, x, x**2),
        "gathered": x[:, [3, 1]],
    }
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        agree(got[name], value)


def test_newer_forms_of_operations_agree_with_torch(tmp_path):
    ct = coremltools()
    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec((1, 8, 8, 8))], opset_version=ct.target.iOS18)
    def program(x):
        values, places = mb.topk(x=x, k=3, axis=1, output_indices_dtype="uint16")
        size = np.array([1, 8, 5, 11], np.int32)
        mil = {
            "values": values,
            "places": mb.cast(x=places, dtype="fp32"),
            "resized": mb.resize(x=x, shape=size, resized_dims=np.uint32(2), sampling_mode="STRICT_ALIGN_CORNERS"),
            "attention": mb.scaled_dot_product_attention(query=x, key=x, value=x),
            "apart": mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)),
        }
        return tuple(mb.identity(x=value, name=name) for name, value in mil.items())

    got = saved(converted(program, ct.target.iOS18), tmp_path / "net.mlpackage").run({"x": X})
    x = torch.from_numpy(X)
    best = x.topk(3, 1)
    agree(got["values"], best.values)
    agree(got["places"], best.indices)
    agree(got["resized"], F.interpolate(x, (5, 11), mode="bilinear", align_corners=True))
    agree(got["attention"], F.scaled_dot_product_attention(x, x, x))
    agree(got["apart"], F.pixel_unshuffle(x, 2))
