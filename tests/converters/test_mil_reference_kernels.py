"""Every kernel against torch, or against numpy written another way where torch has no such function."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pocketface.converters.mil_reference.kernels.registry import KERNELS

RNG = np.random.default_rng(7)
# One value for each name of a parameter's kind would not do: these are drawn once, and nothing changes them.
X = RNG.normal(size=(2, 6, 9, 8)).astype(np.float32)
Y = RNG.normal(size=(2, 6, 9, 8)).astype(np.float32)
SMALL = RNG.uniform(-0.9, 0.9, size=(3, 4)).astype(np.float32)
POSITIVE = RNG.uniform(0.1, 3, size=(3, 4)).astype(np.float32)
INTEGERS = RNG.integers(-9, 9, size=(3, 4)).astype(np.int32)


def t(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def agree(got: Any, want: Any, tolerance: float = 2e-6) -> None:
    """The same shape, and values within a share of the largest."""
    want = np.asarray(want)
    assert np.shape(got) == want.shape
    assert np.abs(np.asarray(got, np.float64) - want).max() <= tolerance * max(1.0, float(np.abs(want).max()))


def test_every_kernel_takes_the_parameters_that_coremltools_defines():
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    for name, kernel in KERNELS.items():
        versions = SSAOpRegistry.core_ops[name].values()
        defined = set().union(*(version.input_spec.input_types for version in versions))
        assert set(inspect.signature(kernel).parameters) == defined, name


UNARY = {
    "abs": (X, torch.abs),
    "acos": (SMALL, torch.acos),
    "asin": (SMALL, torch.asin),
    "atan": (X, torch.atan),
    "atanh": (SMALL, torch.atanh),
    "ceil": (X, torch.ceil),
    "cos": (X, torch.cos),
    "cosh": (X, torch.cosh),
    "erf": (X, torch.erf),
    "exp": (X, torch.exp),
    "exp2": (X, torch.exp2),
    "floor": (X, torch.floor),
    "identity": (X, torch.clone),
    "logical_not": (X > 0, torch.logical_not),
    "relu": (X, torch.relu),
    "relu6": (X * 5, F.relu6),
    "round": (np.float32([-1.5, -0.5, 0.5, 1.5, 2.5, 0.4]), torch.round),
    "sigmoid": (X * 40, torch.sigmoid),
    "sign": (X, torch.sign),
    "silu": (X * 10, F.silu),
    "sin": (X, torch.sin),
    "sinh": (X, torch.sinh),
    "softplus": (X * 40, lambda x: F.softplus(x, threshold=200)),
    "softsign": (X, F.softsign),
    "sqrt": (POSITIVE, torch.sqrt),
    "square": (X, torch.square),
    "tan": (SMALL, torch.tan),
    "tanh": (X, torch.tanh),
}


@pytest.mark.parametrize("name", UNARY)
def test_unary_operations_agree_with_torch(name):
    x, reference = UNARY[name]
    agree(KERNELS[name](x), reference(t(x)))


BINARY = {
    "add": torch.add,
    "equal": torch.eq,
    "floor_div": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mod": torch.remainder,
    "mul": torch.mul,
    "not_equal": torch.ne,
    "real_div": torch.true_divide,
    "sub": torch.sub,
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("other", [Y, Y[:1, :, :1, :1], np.float32(0.7)], ids=["same shape", "per channel", "number"])
def test_binary_operations_agree_with_torch(name, other):
    agree(KERNELS[name](X, other), BINARY[name](t(X), t(other)), 1e-5)


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor"])
def test_logic_agrees_with_torch(name):
    agree(KERNELS[name](X > 0, Y > 0), getattr(torch, name)(t(X > 0), t(Y > 0)))


def test_powers_select_and_threshold_agree_with_torch():
    agree(KERNELS["pow"](POSITIVE, SMALL), torch.pow(t(POSITIVE), t(SMALL)))
    agree(KERNELS["select"](X > 0, X, Y), torch.where(t(X > 0), t(X), t(Y)))
    agree(KERNELS["threshold"](X, np.float32(0.2)), torch.clamp(t(X), min=0.2))


def test_epsilons_are_added_before_the_function():
    agree(KERNELS["inverse"](POSITIVE, np.float32(0.5)), 1 / (POSITIVE + 0.5))
    agree(KERNELS["log"](POSITIVE, np.float32(0.5)), np.log(POSITIVE + 0.5))
    agree(KERNELS["rsqrt"](POSITIVE, np.float32(0.5)), torch.rsqrt(t(POSITIVE + 0.5)))


def test_casts_to_integers_go_towards_zero_and_saturate():
    x = np.float32([-300.7, -1.9, -0.5, 0.5, 1.9, 300.7])
    assert KERNELS["cast"](x, "int32").tolist() == [-300, -1, 0, 0, 1, 300]
    assert KERNELS["cast"](x, "uint8").tolist() == [0, 0, 0, 0, 1, 255]
    assert KERNELS["cast"](x, "bool").all()
    assert KERNELS["cast"](INTEGERS, "fp16").dtype == np.float16


ACTIVATIONS = {
    "clamped_relu": ({"alpha": 0.1, "beta": 1.5}, lambda x: torch.clamp(F.leaky_relu(x, 0.1), max=1.5)),
    "clip": ({"alpha": -0.5, "beta": 0.7}, lambda x: torch.clamp(x, -0.5, 0.7)),
    "elu": ({"alpha": 0.8}, lambda x: F.elu(x, 0.8)),
    "gelu": ({"mode": "EXACT"}, F.gelu),
    "leaky_relu": ({"alpha": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
    "linear_activation": ({"alpha": 2.0, "beta": -1.0}, lambda x: 2 * x - 1),
    "scaled_tanh": ({"alpha": 2.0, "beta": 0.5}, lambda x: 2 * torch.tanh(0.5 * x)),
    "sigmoid_hard": ({"alpha": 1 / 6, "beta": 0.5}, F.hardsigmoid),
    "thresholded_relu": ({"alpha": 0.4}, lambda x: F.threshold(x, 0.4, 0.0)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_agree_with_torch(name):
    options, reference = ACTIVATIONS[name]
    options = {key: np.float32(value) if isinstance(value, float) else value for key, value in options.items()}
    agree(KERNELS[name](X * 3, **options), reference(t(X * 3)))


def test_approximations_of_gelu_agree_with_torch():
    agree(KERNELS["gelu"](X, "TANH_APPROXIMATION"), F.gelu(t(X), approximate="tanh"))
    agree(KERNELS["gelu"](X, "SIGMOID_APPROXIMATION"), t(X) * torch.sigmoid(1.702 * t(X)))
    with pytest.raises(ValueError, match="EXACT, TANH_APPROXIMATION"):
        KERNELS["gelu"](X, "exact")


def test_activations_per_channel_agree_with_torch():
    alpha = RNG.normal(size=6).astype(np.float32)
    agree(KERNELS["prelu"](X, alpha), F.prelu(t(X), t(alpha)))
    beta = np.abs(alpha) + 0.5
    wanted = t(alpha).view(1, -1, 1, 1) * F.softplus(t(X) * t(beta).view(1, -1, 1, 1))
    agree(KERNELS["softplus_parametric"](X, alpha, beta), wanted)


@pytest.mark.parametrize("axis", [1, -1, 0])
def test_softmax_agrees_with_torch(axis):
    agree(KERNELS["softmax"](X * 50, np.int32(axis)), torch.softmax(t(X * 50), axis))


def test_matrix_products_agree_with_torch():
    x, y = X[..., :5], Y[..., :5]
    agree(KERNELS["matmul"](x, y, np.bool_(False), np.bool_(True)), t(x) @ t(y).mT)
    agree(KERNELS["matmul"](x, y, np.bool_(True), np.bool_(False)), t(x).mT @ t(y))
    agree(KERNELS["matmul"](x[0, 0, 0], y.swapaxes(2, 3)), t(x[0, 0, 0]) @ t(y).mT)
    weight, bias = SMALL.repeat(2, 1), POSITIVE[:, 0]
    agree(KERNELS["linear"](X, weight, bias), F.linear(t(X), t(weight), t(bias)))
    left, right = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 5, 4, 6))
    agree(KERNELS["einsum"]((left, right), "nchw,nwhu->nchu"), torch.einsum("nchw,nwhu->nchu", t(left), t(right)))


@pytest.mark.parametrize("mask", [None, np.tril(np.ones((7, 7), bool)), RNG.normal(size=(7, 7)).astype(np.float32)])
def test_attention_agrees_with_torch(mask):
    q, k, v = RNG.normal(size=(3, 2, 4, 7, 8)).astype(np.float32)
    got = KERNELS["scaled_dot_product_attention"](q, k, v, mask)
    agree(got, F.scaled_dot_product_attention(t(q), t(k), t(v), None if mask is None else t(mask)))


def test_normalisations_agree_with_torch():
    mean, gamma, beta = RNG.normal(size=(3, 6)).astype(np.float32)
    variance, epsilon = np.abs(mean) + 0.1, np.float32(1e-3)
    got = KERNELS["batch_norm"](X, mean, variance, gamma, beta, epsilon)
    agree(got, F.batch_norm(t(X), t(mean), t(variance), t(gamma), t(beta), eps=1e-3))
    got = KERNELS["batch_norm"](X, mean, variance)
    agree(got, F.batch_norm(t(X), t(mean), t(variance), eps=1e-5))
    got = KERNELS["instance_norm"](X, gamma, beta, epsilon)
    agree(got, F.instance_norm(t(X), weight=t(gamma), bias=t(beta), eps=1e-3))
    gamma, beta = RNG.normal(size=(2, 9, 8)).astype(np.float32)
    got = KERNELS["layer_norm"](X, np.int32([-2, 3]), gamma, beta, epsilon)
    agree(got, F.layer_norm(t(X), (9, 8), t(gamma), t(beta), 1e-3))
    agree(KERNELS["layer_norm"](X), F.layer_norm(t(X), X.shape))
    agree(KERNELS["l2_norm"](X, np.float32(0)), F.normalize(t(X).flatten(1)).view(X.shape))
    for size in (3, 4):
        got = KERNELS["local_response_norm"](X, np.int32(size), np.float32(0.2), np.float32(0.6), np.float32(1.5))
        agree(got, F.local_response_norm(t(X), size, 0.2, 0.6, 1.5))


REDUCTIONS = {
    "reduce_l1_norm": lambda x, **o: torch.linalg.vector_norm(x, 1, **o),
    "reduce_l2_norm": lambda x, **o: torch.linalg.vector_norm(x, 2, **o),
    "reduce_log_sum": lambda x, **o: torch.log(torch.sum(x, **o)),
    "reduce_log_sum_exp": torch.logsumexp,
    "reduce_max": torch.amax,
    "reduce_mean": torch.mean,
    "reduce_min": torch.amin,
    "reduce_prod": lambda x, dim, keepdim: x.numpy().prod(tuple(dim), keepdims=keepdim),
    "reduce_sum": torch.sum,
    "reduce_sum_square": lambda x, **o: torch.sum(x**2, **o),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize(("axes", "keep"), [([2, 3], False), ([-1], True), (None, False), ([0, -2], True)])
def test_reductions_agree_with_torch(name, axes, keep):
    x = np.abs(X) if name == "reduce_log_sum" else X
    options = {} if axes is None else {"axes": np.int32(axes)}
    got = KERNELS[name](x, keep_dims=np.bool_(keep), **options)
    agree(got, REDUCTIONS[name](t(x), dim=[0, 1, 2, 3] if axes is None else axes, keepdim=keep), 1e-5)


def test_extremes_and_order_agree_with_torch():
    for axis in (1, -1):
        agree(KERNELS["reduce_argmax"](X, np.int32(axis), np.bool_(True)), torch.argmax(t(X), axis, keepdim=True))
        agree(KERNELS["reduce_argmin"](X, np.int32(axis)), torch.argmin(t(X), axis))
        for ascending in (False, True):
            wanted = torch.argsort(t(X), axis, descending=not ascending)
            agree(KERNELS["argsort"](X, np.int32(axis), np.bool_(ascending)), wanted)
            values, places = KERNELS["topk"](X, np.int32(3), np.int32(axis), np.bool_(ascending))
            best = torch.topk(t(X), 3, axis, largest=not ascending)
            agree(values, best.values)
            agree(places, best.indices)
    everything = KERNELS["topk"](X, np.int32(-1), return_indices=np.bool_(False))
    agree(everything, torch.sort(t(X), descending=True).values)
    assert KERNELS["reduce_argmax"](X, output_dtype="uint16").dtype == np.uint16


def test_running_sums_agree_with_hand_made_ones():
    x = np.float32([[1, 2, 3], [4, 5, 6]])
    cumsum, axis, yes = KERNELS["cumsum"], np.int32(-1), np.bool_(True)
    assert cumsum(x, axis).tolist() == [[1, 3, 6], [4, 9, 15]]
    assert cumsum(x, axis, exclusive=yes).tolist() == [[0, 1, 3], [0, 4, 9]]
    assert cumsum(x, axis, reverse=yes).tolist() == [[6, 5, 3], [15, 11, 6]]
    assert cumsum(x, axis, yes, yes).tolist() == [[5, 3, 0], [11, 6, 0]]
