"""Kernel = reference to the bit, for every type, layout and width; packing on the device = packing on the host in each framework."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerscope.kernels import cpu, device, reference
from layerscope.kernels._engine import engine
from tests.conftest import require

RNG = np.random.default_rng(0)
SHAPES = [((7, 20), 1), ((3, 64), -1), ((5, 100), 1), ((4, 20, 5, 6), 1), ((2, 70, 4), 1), ((3, 130, 1, 1), 1), ((2, 5, 4, 33), -1), ((1, 1), 1),
          ((2, 17, 5000), 1), ((1, 63), 1), ((2, 65, 3), 1), ((100, 1), 1), ((3, 1, 77), 1), ((2, 30, 600), 1), ((5, 70_000), 1), ((70_000, 3), 0), ((9,), 0)]  # fmt: skip


def same(left, right):
    words, finite = left
    np.testing.assert_array_equal(words, right[0])
    assert words.dtype == np.uint64
    assert finite == right[1]


def values(shape, kind, rng=RNG):
    """Random values of a NumPy type or of bfloat16 (as int16), some of them special, and the name to pass."""
    if kind == "bfloat16":
        return rng.integers(-(2**15), 2**15, shape, np.int16), kind
    if kind[0] in "iu":
        info = np.iinfo(kind)
        return rng.integers(info.min, info.max, shape, kind, endpoint=True), None
    x = rng.normal(0, 2, shape)
    x.flat[:: max(7, x.size // 3)] = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40])
    return x.astype(kind), None


def test_the_kernels_run_here():
    assert engine() is cpu


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("kind", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "bfloat16"])
def test_pack(shape, axis, kind):
    x, dtype = values(shape, kind)
    for threshold in (0.0, 0.75, -1.0):
        same(cpu.pack(x, axis, threshold, dtype), reference.pack(x, axis, threshold, dtype))
    assert cpu.nonfinite(x, dtype) == reference.nonfinite(x, dtype)


@given(
    st.integers(1, 200),
    st.integers(1, 700),
    st.integers(0, 4),
    st.sampled_from(["f2", "f4", "bfloat16", "u1"]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_pack_at_every_width_and_run(units, positions, samples, kind, seed):
    x, dtype = values((samples, units, positions), kind, np.random.default_rng(seed))
    same(cpu.pack(x, 1, 0.0, dtype), reference.pack(x, 1, 0.0, dtype))
    same(cpu.pack(x, 2, 0.0, dtype), reference.pack(x, 2, 0.0, dtype))


def test_a_kernel_that_differs_in_one_bit_is_noticed():
    x = RNG.standard_normal((9, 20))
    words, finite = reference.pack(x, 1)
    words[4, 0] ^= np.uint64(1)
    with pytest.raises(AssertionError):
        same((words, finite), reference.pack(x, 1))
    with pytest.raises(AssertionError):
        same((reference.pack(x, 1)[0], not finite), reference.pack(x, 1))


# On the device.

TYPES = ["float32", "float64", "float16", "bfloat16", "int32", "uint8", "bool"]
UNITS = [1, 5, 8, 64, 100, 1024, 1025, 1032, 3001]


def activation(units, kind):
    """(values as float32 that the type holds exactly, packed bytes, NaN, infinite)"""
    x = np.round(RNG.normal(0, 2, (3, units, 4)) * 4).astype(np.float32) / 4
    if "float" in kind:
        x[0, 0, :3] = np.nan, np.inf, -np.inf
    elif kind == "bool":
        x = (x > 0).astype(np.float32)
    else:
        x = np.abs(np.round(x))
    words, _ = reference.pack(x, 1, 0.25)
    nan, inf = reference.nonfinite(x)
    return x, words.view(np.uint8)[:, : -(-units // 8)], (nan, inf)


def frameworks():
    """Name, and how to run pack and nonfinite there on float32 values turned into the type: compiled where there is a compiler."""

    def numpy_(x, kind, threshold):
        if kind == "bfloat16":
            pytest.skip("NumPy has no bfloat16")
        x = x.astype(kind)
        return device.pack(x, 1, threshold, np), device.nonfinite(x, np)

    def torch_(x, kind, threshold):
        torch = require("torch")
        xp = require("array_api_compat.torch")
        x = torch.from_numpy(x).to(getattr(torch, kind))
        return device.pack(x, 1, threshold, xp), device.nonfinite(x, xp)

    def torch_compiled(x, kind, threshold):
        torch = require("torch")
        xp = require("array_api_compat.torch")
        x = torch.from_numpy(x).to(getattr(torch, kind))
        return torch.compile(lambda v: (device.pack(v, 1, threshold, xp), device.nonfinite(v, xp)), backend="eager")(x)

    def jax_(x, kind, threshold):
        jax = require("jax")
        if kind == "float64":
            pytest.skip("JAX has no float64 unless a process asks for it")
        x = jax.numpy.asarray(x).astype(kind)
        return jax.jit(lambda v: (device.pack(v, 1, threshold, jax.numpy), device.nonfinite(v, jax.numpy)))(x)

    def tensorflow_(x, kind, threshold):
        tf = require("tensorflow")
        xp = tf.experimental.numpy

        @tf.function(input_signature=[tf.TensorSpec((None, x.shape[1], None), kind)], autograph=False)
        def run(v):
            return device.pack(v, 1, threshold, xp), device.nonfinite(v, xp)

        return run(tf.cast(x, kind))

    def tensorflow_eager(x, kind, threshold):
        tf = require("tensorflow")
        x = tf.cast(x, kind)
        return device.pack(x, 1, threshold, tf.experimental.numpy), device.nonfinite(x, tf.experimental.numpy)

    return [
        pytest.param(numpy_, id="numpy"),
        pytest.param(torch_, id="torch", marks=pytest.mark.torch),
        pytest.param(torch_compiled, id="torch.compile", marks=pytest.mark.torch),
        pytest.param(jax_, id="jax", marks=pytest.mark.jax),
        pytest.param(tensorflow_, id="tensorflow", marks=pytest.mark.tensorflow),
        pytest.param(tensorflow_eager, id="tensorflow-eager", marks=pytest.mark.tensorflow),
    ]


@pytest.mark.parametrize("run", frameworks())
@pytest.mark.parametrize(("units", "kind"), [(units, "float32") for units in UNITS] + [(20, kind) for kind in TYPES])
def test_device_is_host(run, units, kind):
    x, expected, bad = activation(units, kind)
    packed, found = run(x, kind, 0.25)
    packed = np.asarray(packed)
    assert packed.dtype == np.uint8
    np.testing.assert_array_equal(packed, expected)
    assert (int(found[0]), int(found[1])) == bad


@pytest.mark.parametrize("run", frameworks())
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "uint8", "int32", "bool"])
def test_thresholds_on_the_device(run, kind):
    x = np.array([0, 1, 2, 3, 100, 255 if kind in ("uint8", "float16") else 7], np.float32)[None, :, None]
    if kind == "bool":
        x = x > 0
    for threshold in (0.1, 1.0, -1.0, 254.6, 1e4, -1e4, float("inf"), -float("inf")):
        words, _ = reference.pack(
            x if kind == "bfloat16" else x.astype(kind), 1, threshold
        )  # these values are bfloat16 exactly
        packed, _ = run(x, kind, threshold)
        np.testing.assert_array_equal(np.asarray(packed), words.view(np.uint8)[:, :1], err_msg=str(threshold))


def test_a_device_that_packs_the_other_way_round_is_noticed():
    x, expected, _ = activation(20, "float32")
    wrong = np.packbits(np.moveaxis(x > 0.25, 1, -1).reshape(-1, 20), axis=1)
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(wrong, expected)


@pytest.mark.gpu
@pytest.mark.torch
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("units", UNITS)
def test_torch_on_an_accelerator(units, kind):
    torch = require("torch")
    if not torch.cuda.is_available():
        pytest.skip("no accelerator")
    xp = require("array_api_compat.torch")
    x, expected, bad = activation(units, kind)
    there = torch.from_numpy(x).to(getattr(torch, kind)).cuda()
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True  # the worst case
    try:
        packed = device.pack(there, 1, 0.25, xp)
        assert packed.is_cuda
        np.testing.assert_array_equal(packed.cpu().numpy(), expected)
        assert tuple(map(int, device.nonfinite(there, xp))) == bad
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
