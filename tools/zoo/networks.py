"""The zoo's networks, written as ONNX graphs from their trained weights.

Batch normalisation is folded into the convolution before it, in float64. TensorFlow's "same"
padding, static for a static input, becomes the convolution's own pads. It does not read files and
does not compare with the originals: see ``originals`` and ``verify``.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import onnx

from .catalogue import Conv, Linear, Network, Pool
from .graph import INPUT_NAME, OUTPUT_NAME, GraphBuilder

__all__ = ["Weights", "onnx_from_weights"]

Array = npt.NDArray[np.float32]
Weights = Mapping[str, Array]


def onnx_from_weights(network: Network, weights: Weights) -> onnx.ModelProto:
    """Return the bare ONNX model of a network; metadata is added elsewhere.

    Args:
        network: Which network; its crop gives the input's size.
        weights: Arrays by their names in the source weights file.

    Raises:
        KeyError: If a weight is missing.
        ValueError: If a weight is left over or does not fit float16.
    """
    builder = GraphBuilder()
    unused = _Unused(weights)
    _WRITERS[network.family](builder, unused, network)
    if left := unused.names():
        raise ValueError(f"{network.name}: weights without a layer: {', '.join(left)}")
    height, width = network.pipeline.crop_px
    return builder.model(
        network.name, input_shape=(1, 3, height, width), classes=network.task.classes
    )


class _Unused:
    """Weights by name, remembering which were asked for."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._left = {name for name in weights if not name.endswith("num_batches_tracked")}

    def __getitem__(self, name: str) -> Array:
        self._left.discard(name)
        return self._weights[name]

    def __contains__(self, name: str) -> bool:
        return name in self._weights

    def names(self) -> list[str]:
        return sorted(self._left)

    def folded(self, conv: str, norm: str, eps: float) -> tuple[Array, Array]:
        """Return weight and bias of a convolution without bias, followed by a normalisation."""
        scale = self[f"{norm}.weight"].astype(np.float64)
        scale = scale / np.sqrt(self[f"{norm}.running_var"].astype(np.float64) + eps)
        weight = self[f"{conv}.weight"].astype(np.float64) * scale[:, None, None, None]
        bias = self[f"{norm}.bias"] - self[f"{norm}.running_mean"].astype(np.float64) * scale
        return weight.astype(np.float32), bias.astype(np.float32)


def _squeezenet(g: GraphBuilder, w: _Unused, network: Network) -> None:
    def conv(x: str, path: str, *, stride: int = 1, pads: tuple[int, ...] = (0, 0, 0, 0)) -> str:
        # The source keeps kernels as (k, k, in, out).
        weight = np.ascontiguousarray(w[f"{path}.weight"].transpose(3, 2, 0, 1))
        return g.conv(x, path, weight, w[f"{path}.bias"], stride=stride, pads=pads)

    def fire(x: str, path: str) -> str:
        squeezed = g.relu(conv(x, f"{path}/squeeze1x1"), f"{path}/squeeze1x1")
        narrow = g.relu(conv(squeezed, f"{path}/expand1x1"), f"{path}/expand1x1")
        wide = conv(squeezed, f"{path}/expand3x3", pads=(1, 1, 1, 1))
        return g.concat([narrow, g.relu(wide, f"{path}/expand3x3")], path)

    pads = _same_pads(network.pipeline.crop_px[0], kernel=3, stride=2)
    x = g.relu(conv(INPUT_NAME, "conv1", stride=2, pads=pads), "conv1")
    for stage, fires in enumerate(((2, 3), (4, 5), (6, 7, 8, 9))):
        x = g.max_pool(x, f"maxpool{2 * stage + 1}", kernel=3, stride=2)
        for number in fires:
            x = fire(x, f"fire{number}")
    x = conv(x, "conv10")
    g.pool_and_flatten(x, "head", output=OUTPUT_NAME)


def _mobilenet_v2(g: GraphBuilder, w: _Unused, network: Network) -> None:
    def conv(x: str, path: str, conv: str, norm: str, *, stride: int = 1) -> str:
        weight, bias = w.folded(conv, norm, eps=1e-5)
        side = weight.shape[2] // 2
        group = weight.shape[0] if weight.shape[1] == 1 else 1
        pads = (side, side, side, side)
        return g.conv(x, path, weight, bias, stride=stride, pads=pads, group=group)

    def conv6(x: str, path: str, layer: str, *, stride: int = 1) -> str:
        return g.relu6(conv(x, path, f"{layer}.0", f"{layer}.1", stride=stride), path)

    x = conv6(INPUT_NAME, "stem", "features.0", stride=2)
    strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    for index, stride in enumerate(strides, start=1):
        path, layer, start = f"blocks.{index}", f"features.{index}.conv", x
        position = 0
        if f"{layer}.3.weight" in w:
            x = conv6(x, f"{path}/expand_conv", f"{layer}.0")
            position = 1
        x = conv6(x, f"{path}/depthwise_conv", f"{layer}.{position}", stride=stride)
        names = f"{layer}.{position + 1}", f"{layer}.{position + 2}"
        channels_in = w[f"{layer}.0.0.weight"].shape[1 if position else 0]
        x = conv(x, f"{path}/project_conv", *names)
        if stride == 1 and channels_in == w[f"{names[0]}.weight"].shape[0]:
            x = g.add(x, start, path)
    x = conv6(x, "head", "features.18")
    x = g.pool_and_flatten(x, "head")
    g.linear(x, "classifier", w["classifier.1.weight"], w["classifier.1.bias"], output=OUTPUT_NAME)


def _efficientnet_lite(g: GraphBuilder, w: _Unused, network: Network) -> None:
    side = network.pipeline.crop_px[0]

    def conv(x: str, path: str, conv: str, norm: str, *, stride: int = 1) -> str:
        weight, bias = w.folded(conv, norm, eps=1e-3)
        group = weight.shape[0] if weight.shape[1] == 1 else 1
        pads = _same_pads(side, kernel=weight.shape[2], stride=stride)
        return g.conv(x, path, weight, bias, stride=stride, pads=pads, group=group)

    x = g.relu6(conv(INPUT_NAME, "stem", "_conv_stem", "_bn0", stride=2), "stem")
    side = math.ceil(side / 2)
    for index, stride in enumerate(_LITE_STRIDES[network.name]):
        path, layer, start = f"blocks.{index}", f"_blocks.{index}", x
        if f"{layer}._expand_conv.weight" in w:
            expand = f"{path}/expand_conv"
            x = g.relu6(conv(x, expand, f"{layer}._expand_conv", f"{layer}._bn0"), expand)
        depth = f"{path}/depthwise_conv"
        x = conv(x, depth, f"{layer}._depthwise_conv", f"{layer}._bn1", stride=stride)
        x = g.relu6(x, depth)
        side = math.ceil(side / stride)
        x = conv(x, f"{path}/project_conv", f"{layer}._project_conv", f"{layer}._bn2")
        if stride == 1 and _lite_keeps_channels(w, layer):
            x = g.add(x, start, path)
    x = g.relu6(conv(x, "head", "_conv_head", "_bn1"), "head")
    x = g.pool_and_flatten(x, "head")
    g.linear(x, "classifier", w["_fc.weight"], w["_fc.bias"], output=OUTPUT_NAME)


def _chain(g: GraphBuilder, w: _Unused, network: Network) -> None:
    """Write the layers that the catalogue says; the first one was trained on one grey channel."""
    x = INPUT_NAME
    is_flat = False
    for layer in network.layers:
        is_last = layer is network.layers[-1]
        if isinstance(layer, Conv):
            weight, bias = w.folded(f"{layer.path}.conv", f"{layer.path}.norm", eps=1e-5)
            if x == INPUT_NAME:
                weight = np.repeat(weight / 3, 3, axis=1)
            pads = (layer.pad,) * 4
            x = g.relu(g.conv(x, layer.path, weight, bias, pads=pads), layer.path)
        elif isinstance(layer, Pool):
            x = g.max_pool(x, layer.path, kernel=layer.kernel, stride=layer.stride)
        elif isinstance(layer, Linear):
            x = x if is_flat else g.flatten(x, "head")
            is_flat = True
            arrays = w[f"{layer.path}.weight"], w[f"{layer.path}.bias"]
            x = g.linear(x, layer.path, *arrays, output=OUTPUT_NAME if is_last else None)
            x = x if is_last else g.relu(x, layer.path)


def _lite_keeps_channels(w: _Unused, layer: str) -> bool:
    expand = f"{layer}._expand_conv.weight"
    if expand in w:
        channels_in = w[expand].shape[1]
    else:
        channels_in = w[f"{layer}._depthwise_conv.weight"].shape[0]
    return bool(channels_in == w[f"{layer}._project_conv.weight"].shape[0])


def _same_pads(side_px: int, *, kernel: int, stride: int) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right of TensorFlow's "same" padding of a square input."""
    outputs = math.ceil(side_px / stride)
    total = max((outputs - 1) * stride + kernel - side_px, 0)
    before = total // 2
    return before, before, total - before, total - before


def _lite_strides(repeats: tuple[int, ...]) -> tuple[int, ...]:
    first = (1, 2, 2, 2, 1, 2, 1)
    return tuple(
        stride if position == 0 else 1
        for stride, repeat in zip(first, repeats, strict=True)
        for position in range(repeat)
    )


_LITE_STRIDES = {
    "efficientnet-lite0": _lite_strides((1, 2, 2, 3, 3, 4, 1)),
    "efficientnet-lite1": _lite_strides((1, 3, 3, 4, 4, 5, 1)),
    "efficientnet-lite2": _lite_strides((1, 3, 3, 4, 4, 5, 1)),
}

_WRITERS: dict[str, Callable[[GraphBuilder, _Unused, Network], None]] = {
    "squeezenet": _squeezenet,
    "mobilenet-v2": _mobilenet_v2,
    "efficientnet-lite": _efficientnet_lite,
    "chain": _chain,
}
