"""Every codec: what goes in comes out, within what the codec promises; strangers are refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from isthmus.errors import CodecError
from isthmus.runtime.codecs import CODECS, decode, encode_pixels
from isthmus.runtime.image import normalise
from isthmus.types.codec import Payload
from isthmus.types.variant import InputPipeline

LIMIT = 1 << 24
LOSSLESS = [name for name, codec in CODECS.items() if codec.is_lossless]
LOSSY = [name for name, codec in CODECS.items() if not codec.is_lossless]
AFFINE = ["u8", "u8+zstd", "u8c", "u8c+zstd"]
HALF = ["fp16", "fp16+zstd"]
ON_THE_WIRE = [name for name in CODECS if not name.startswith("u8c")]
WITH_CHANNELS = arrays.array_shapes(min_dims=3, max_dims=4, min_side=0, max_side=6)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)
DTYPES = ["bool", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32", "float64"]


def shapes_for(name):
    return WITH_CHANNELS if name.startswith("u8c") else SHAPES


few = settings(max_examples=120, deadline=None)


def test_the_names_are_the_ones_promised():
    assert list(CODECS) == [
        "raw", "zstd", "fp16", "fp16+zstd", "u8", "u8+zstd", "u8c", "u8c+zstd",
    ]  # fmt: skip
    assert all(name == codec.name for name, codec in CODECS.items())
    assert LOSSLESS == ["raw", "zstd"]


@few
@given(data=st.data(), dtype=st.sampled_from(DTYPES), shape=SHAPES)
@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_codecs_give_back_every_bit(name, data, dtype, shape):
    array = data.draw(arrays.arrays(dtype, shape))
    payload = CODECS[name].encode(array)
    back = decode(payload, limit_bytes=array.nbytes)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("name", list(CODECS))
def test_memory_order_and_byte_order_do_not_matter(name):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    expected = decode(CODECS[name].encode(array), limit_bytes=LIMIT)
    for other in (np.asfortranarray(array), array.astype(">f4"), array[:, :, :][::1]):
        assert np.array_equal(decode(CODECS[name].encode(other), limit_bytes=LIMIT), expected)


def values(width):
    return st.floats(-1e6, 1e6, width=width)


@few
@given(data=st.data(), dtype=st.sampled_from(["float32", "float64"]))
@pytest.mark.parametrize("name", AFFINE)
def test_u8_errs_by_half_a_step_at_most(name, data, dtype):
    shape = data.draw(shapes_for(name))
    array = data.draw(arrays.arrays(dtype, shape, elements=values(32)))
    payload = CODECS[name].encode(array)
    back = decode(payload, limit_bytes=array.nbytes)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    if array.size:
        step = np.array(payload.parameters["scale"])
        if "axis" in payload.parameters:
            step = step.reshape(1, -1, *[1] * (array.ndim - 2))
        largest = float(np.abs(array).max())
        allowed = step / 2 * 1.0001 + largest * 3e-7
        assert (np.abs(back.astype(float) - array) <= allowed).all()


@few
@given(data=st.data(), shape=WITH_CHANNELS)
def test_a_channels_steps_are_its_own_and_nearly_as_fine_as_they_can_be(data, shape):
    array = data.draw(arrays.arrays(np.float32, shape, elements=values(32)))
    parameters = CODECS["u8c"].encode(array).parameters
    assert parameters["axis"] == 1
    if array.size:
        others = tuple(axis for axis in range(array.ndim) if axis != 1)
        span = np.ptp(array.astype(float), axis=others)
        assert all(
            step <= width / 255 * 1.011 or step == 1.0
            for step, width in zip(parameters["scale"], span, strict=True)
        )


def test_one_loud_channel_does_not_drown_the_others():
    array = np.random.default_rng(2).normal(size=(1, 4, 6, 6)).astype(np.float32)
    array[0, 3] *= 1e5
    errors = {
        name: float(
            np.abs(decode(CODECS[name].encode(array), limit_bytes=LIMIT) - array)[0, 0].max()
        )
        for name in ("u8", "u8c")
    }
    assert errors["u8"] > 1
    assert errors["u8c"] < 0.02


@few
@given(data=st.data(), dtype=st.sampled_from(["float16", "float32", "float64"]), shape=SHAPES)
@pytest.mark.parametrize("name", HALF)
def test_fp16_gives_the_nearest_half_or_refuses(name, data, dtype, shape):
    array = data.draw(arrays.arrays(dtype, shape))  # NaN, infinities and subnormals among them
    finite = array[np.isfinite(array)].astype(float)
    if (np.abs(finite) >= 65520).any():  # half way to the half that would come after the last
        with pytest.raises(CodecError, match="65504"):
            CODECS[name].encode(array)
        return
    payload = CODECS[name].encode(array)
    back = decode(payload, limit_bytes=array.nbytes)
    assert payload.datatype == "FP16"
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    with np.errstate(all="ignore"):
        expected = array.astype(np.float16).astype(dtype)
    np.testing.assert_array_equal(back, expected)
    ordinary = np.isfinite(array)
    error = np.abs(back[ordinary].astype(float) - array[ordinary])
    assert (error <= np.abs(array[ordinary].astype(float)) * 2.0**-11 + 2.0**-25).all()


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (65504.0, 65504.0),
        (65519.9, 65504.0),
        (-65519.9, -65504.0),
        (6e-8, 2.0**-24),  # the smallest half, subnormal
        (2.0**-26, 0.0),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
        (math.nan, math.nan),
    ],
)
def test_the_ends_of_half_precision(value, arrives):
    back = decode(CODECS["fp16"].encode(np.full(9, value, np.float32)), limit_bytes=LIMIT)
    np.testing.assert_array_equal(back, np.full(9, arrives, np.float32))


@pytest.mark.parametrize("name", HALF)
@pytest.mark.parametrize("value", [65520.0, -65520.0, 1e30])
def test_what_half_precision_cannot_hold_is_refused_and_not_made_infinite(name, value):
    with pytest.raises(CodecError, match="beyond 65504"):
        CODECS[name].encode(np.array([1.0, value], np.float32))


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.25, 1e-30, 1e30, -1e-42, 255.0])
@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 3, 1, 1)])
def test_a_constant_tensor_keeps_its_value(name, value, shape):
    array = np.full(shape, value, np.float32)
    back = decode(CODECS[name].encode(array), limit_bytes=LIMIT)
    assert np.allclose(back, array, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("shape", [(1, 1, 500), (1, 2, 250)])
def test_a_narrow_range_far_from_zero_keeps_its_steps(name, shape):
    array = np.linspace(1000, 1000.1, 500, dtype=np.float32).reshape(shape)
    back = decode(CODECS[name].encode(array), limit_bytes=LIMIT)
    assert np.abs(back - array).max() <= 0.1 / 253 / 2 + 1.3e-4  # 1.2e-4 is float32's own step


def test_a_relu_tensor_is_quantised_from_zero_and_keeps_its_zeros():
    array = np.maximum(np.random.default_rng(1).normal(size=(1, 8, 5, 5)), 0).astype(np.float32)
    payload = CODECS["u8"].encode(array)
    assert payload.parameters["zero_point"] == 0
    assert payload.parameters["scale"] == pytest.approx(array.max() / 255)
    assert not decode(payload, limit_bytes=LIMIT)[array == 0].any()
    assert payload.datatype == "UINT8"
    assert len(payload.data) == array.size


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(2, 3, 1), (2, 3, 4)])
def test_values_that_are_not_finite_are_refused(name, bad, shape):
    array = np.ones(shape, np.float32)
    array[1, 1] = bad
    with pytest.raises(CodecError, match="cannot be quantised"):
        CODECS[name].encode(array)


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 1, 2)])
def test_a_span_beyond_float32_is_refused(name, shape):
    with pytest.raises(CodecError, match="cannot be quantised"):
        CODECS[name].encode(np.array([-3e38, 3e38], np.float32).reshape(shape))


@pytest.mark.parametrize("name", ["u8c", "u8c+zstd"])
@pytest.mark.parametrize("ends", [(0, 3.4e38), (-3.4e38, 0), (2e38, 3.4e38), (-1.7e38, 1.7e38)])
def test_levels_that_would_reach_beyond_float32_are_refused_before_they_cross(name, ends):
    with pytest.raises(CodecError, match="beyond one byte"):
        CODECS[name].encode(np.array(ends, np.float32).reshape(1, 1, 2))


@pytest.mark.parametrize("name", AFFINE)
def test_double_precision_beyond_single_is_refused_without_a_warning(name):
    with pytest.raises(CodecError, match=r"beyond 3\.40282e\+38"):
        CODECS[name].encode(np.array([0.0, 1e39]).reshape(1, 1, 2))


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_codecs_take_floats_only(name):
    with pytest.raises(CodecError, match="floating point"):
        CODECS[name].encode(np.ones(3, np.int32))


@pytest.mark.parametrize("name", list(CODECS))
def test_dtypes_without_a_datatype_are_refused(name):
    with pytest.raises(CodecError, match="cannot be encoded"):
        CODECS[name].encode(np.ones(3, np.complex64))


def test_half_precision_is_decoded_to_half_precision():
    array = np.linspace(-1, 1, 50, dtype=np.float16)
    payload = CODECS["u8"].encode(array)
    assert payload.parameters["original_datatype"] == "FP16"
    assert decode(payload, limit_bytes=array.nbytes).dtype == np.float16


def test_a_map_beyond_half_precision_is_refused_and_not_made_infinite():
    array = np.array([-65504.0, 65504.0], np.float16)
    payload = CODECS["u8"].encode(array)
    assert decode(payload, limit_bytes=4).tolist() == array.tolist()
    wider = replace(payload, parameters={**payload.parameters, "scale": 520.0})
    with pytest.raises(CodecError, match="beyond 65504"):
        decode(wider, limit_bytes=4)


@few
@given(
    planes=arrays.arrays(np.uint8, (1, 3, 5, 4)),
    mean=st.tuples(*[st.floats(0, 255)] * 3),
    std=st.tuples(*[st.floats(0.01, 255)] * 3),
    zstd=st.booleans(),
)
def test_pixels_decode_to_the_input_tensor_bit_for_bit(planes, mean, std, zstd):
    pipeline = InputPipeline(8, (5, 4), "bilinear", "RGB", mean, std)
    payload = encode_pixels(planes, pipeline, zstd=zstd)
    tensor = normalise(planes, pipeline)
    assert payload.parameters["axis"] == 1
    assert decode(payload, limit_bytes=tensor.nbytes).tobytes() == tensor.tobytes()


def tampered(name, array=None, **changes):
    plain = np.ones((2, 6, 1) if name.startswith("u8c") else (2, 6), np.float32)
    payload = CODECS[name].encode(plain if array is None else array)
    parameters = {**payload.parameters, **changes.pop("parameters", {})}
    return replace(payload, parameters=parameters, **changes)


A_BOMB = zstandard.ZstdCompressor(level=1).compress(bytes(100_000_000))
_stream = zstandard.ZstdCompressor(level=1).compressobj()
A_BOMB_OF_UNKNOWN_SIZE = _stream.compress(bytes(20_000_000)) + _stream.flush()


@pytest.mark.parametrize("name", ["zstd", "fp16+zstd", "u8+zstd", "u8c+zstd"])
@pytest.mark.parametrize("bomb", [A_BOMB, A_BOMB_OF_UNKNOWN_SIZE], ids=["sized", "unsized"])
def test_a_bomb_unpacks_to_no_more_than_its_shape(name, bomb):
    with pytest.raises(CodecError, match=r"frame holds|damaged"):
        decode(tampered(name, data=bomb), limit_bytes=LIMIT)


def test_a_frame_with_a_window_beyond_the_limit_is_refused():
    wide = zstandard.ZstdCompressionParameters(window_log=25)
    stream = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    frame = stream.compress(bytes(48)) + stream.flush()
    with pytest.raises(CodecError):
        decode(tampered("zstd", data=frame), limit_bytes=LIMIT)


@pytest.mark.parametrize("name", ["zstd", "fp16+zstd", "u8+zstd", "u8c+zstd"])
def test_damaged_frames_are_refused(name):
    good = bytes(tampered(name, np.arange(12, dtype=np.float32).reshape(2, 6, 1)).data)
    for data in (b"", good[:-3], good[:5], b"\0" * 20, good + b"more", good + good):
        with pytest.raises(CodecError):
            decode(tampered(name, data=data), limit_bytes=LIMIT)


@pytest.mark.parametrize("name", list(CODECS))
def test_bytes_that_do_not_match_the_shape_are_refused(name):
    for shape in ((2, 5), (2, 7), (0, 6), (3, 2, 6)):
        with pytest.raises(CodecError):
            decode(tampered(name, shape=shape), limit_bytes=LIMIT)


@pytest.mark.parametrize("name", list(CODECS))
def test_the_limit_is_checked_before_anything_else(name):
    with pytest.raises(CodecError, match="at most 47"):
        decode(tampered(name), limit_bytes=47)
    with pytest.raises(CodecError, match="at most"):
        decode(tampered(name, shape=(1 << 39, 1 << 39)), limit_bytes=LIMIT)


@pytest.mark.parametrize("name", ["u8c", "u8c+zstd"])
@pytest.mark.parametrize("shape", [(), (3,), (1, 1000)])
def test_a_tensor_without_channels_has_no_maps_of_channels(name, shape):
    with pytest.raises(CodecError, match="second axis"):
        CODECS[name].encode(np.ones(shape, np.float32))


def test_an_infinite_channel_is_refused_without_a_warning():
    array = np.ones((1, 2, 3), np.float32)
    array[0, 1] = math.inf
    with pytest.raises(CodecError, match="cannot be quantised"):
        CODECS["u8c"].encode(array)


def test_per_channel_maps_cross_as_u8_with_an_axis():
    array = np.random.default_rng(3).normal(size=(1, 5, 4, 4)).astype(np.float32)
    for name in ("u8c", "u8c+zstd"):
        parameters = CODECS[name].encode(array).parameters
        assert (parameters["codec"], parameters["axis"]) == (name.replace("u8c", "u8"), 1)
        assert [len(parameters[key]) for key in ("scale", "zero_point")] == [5, 5]
    with pytest.raises(CodecError, match="unknown codec 'u8c'"):
        decode(tampered("u8", parameters={"codec": "u8c"}), limit_bytes=LIMIT)


def test_maps_of_channels_are_short_enough_for_a_header():
    array = np.random.default_rng(4).normal(size=(1, 320, 7, 7)).astype(np.float32)
    parameters = CODECS["u8c"].encode(array).parameters
    told = json.dumps({key: parameters[key] for key in ("scale", "zero_point")})
    assert len(told) < 320 * 16  # two float64 would take 40


@pytest.mark.parametrize("key", ["scale", "zero_point"])
@pytest.mark.parametrize(
    "value", [None, "1", True, [1.0], {}, math.nan, math.inf, 1e300, -1e308, 10**400, [1, 2]]
)
def test_an_absurd_scale_or_zero_point_is_refused(key, value):
    with pytest.raises(CodecError):
        decode(tampered("u8", parameters={key: value}), limit_bytes=LIMIT)


@pytest.mark.parametrize("scale", [0, 0.0, -0.0, -1, -1e-30])
def test_a_step_is_positive(scale):
    with pytest.raises(CodecError, match="scale must be positive"):
        decode(tampered("u8", parameters={"scale": scale}), limit_bytes=LIMIT)
    three = {"axis": 0, "scale": [1.0, scale], "zero_point": [0, 0]}
    with pytest.raises(CodecError, match="scale must be positive"):
        decode(tampered("u8", parameters=three), limit_bytes=LIMIT)


def test_no_level_overflows_on_its_way():
    centred = {"scale": 3.4e38 / 128, "zero_point": 127.5}  # both ends are float32, 255 steps not
    with pytest.raises(CodecError, match="leave the range of float32"):
        decode(tampered("u8", parameters=centred), limit_bytes=LIMIT)


@pytest.mark.parametrize("axis", [-1, 2, 1.0, True, "1"])
def test_an_axis_that_is_none_is_refused(axis):
    lists = {"scale": [1.0] * 6, "zero_point": [0.0] * 6, "axis": axis}
    with pytest.raises(CodecError, match="axis"):
        decode(tampered("u8", parameters=lists), limit_bytes=LIMIT)


@pytest.mark.parametrize("scale", [1.0, [1.0] * 5, "xxxxxx", [1.0] * 5 + ["1"]])
def test_one_number_for_each_index_along_the_axis(scale):
    lists = {"scale": scale, "zero_point": [0.0] * 6, "axis": 1}
    with pytest.raises(CodecError):
        decode(tampered("u8", parameters=lists), limit_bytes=LIMIT)


@pytest.mark.parametrize(
    "payload",
    [
        Payload("FP32", (1,), bytes(4), {"codec": "gzip"}),
        Payload("FP32", (1,), bytes(4), {"codec": 7}),
        Payload("FP32", (1,), bytes(4), {"codec": ["u8"]}),
        Payload("BYTES", (1,), bytes(4), {}),
        Payload("INT32", (1,), bytes(4), {"codec": "zstd", "original_datatype": "FP32"}),
        Payload("FP32", (1,), bytes(4), {"codec": "u8", "scale": 1, "zero_point": 0}),
        Payload(
            "UINT8",
            (1,),
            bytes(1),
            {"codec": "u8", "scale": 1, "zero_point": 0, "original_datatype": "INT32"},
        ),
        Payload("UINT8", (1,), bytes(1), {"codec": "u8", "original_datatype": ["FP32"]}),
        Payload(
            "UINT8",
            (1,),
            bytes(1),
            {"codec": "u8", "scale": 1, "zero_point": 0, "original_datatype": "UINT8"},
        ),
        Payload("FP32", (1,), bytes(4), {"codec": "fp16", "original_datatype": "FP32"}),
        Payload("FP16", (1,), bytes(2), {"codec": "fp16", "original_datatype": "INT32"}),
        Payload("FP16", (1,), bytes(4), {"codec": "fp16", "original_datatype": "FP32"}),
    ],
)
def test_strange_parameters_are_refused(payload):
    with pytest.raises(CodecError):
        decode(payload, limit_bytes=LIMIT)
