"""Trains the Fashion-MNIST networks, an epoch at a time; what is interrupted goes on.

It neither fetches nor writes ONNX. The images are grey: one channel is trained, and ``networks``
spreads its weights over three. Each epoch has its own seed, so that interruptions change nothing.
The same processor, thread and torch give the same weights; others differ in the last digits, so
that the files of the zoo, and not this program, are what is shipped and measured.
"""

import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from .catalogue import Conv, Linear, Network, Pool

__all__ = ["trained_weights"]

_SEED = 2017
_BATCH = 128
_LEARNING_RATE = 2e-3
_WEIGHT_DECAY = 0.02
_SHIFT_PX = 2

Pixels = npt.NDArray[np.uint8]


def trained_weights(
    network: Network, pixels: Pixels, classes: Pixels, checkpoint: Path, *, at_most: int
) -> dict[str, npt.NDArray[np.float32]] | None:
    """Train a network, from its checkpoint if there is one.

    AdamW; the learning rate rises for a tenth of the steps and falls as a cosine to 0. Images are
    mirrored in half of the cases and moved by up to 2 pixels.

    Args:
        network: Its layers and pipeline.
        pixels: Grey images as they arrive at the network, uint8 ``[n, H, W]``.
        classes: Of each, uint8 ``[n]``.
        checkpoint: Written after each epoch.
        at_most: So many epochs now.

    Returns:
        The weights by name, or ``None`` if there are epochs left.
    """
    torch.set_num_threads(1)
    torch.manual_seed(_SEED)
    module = _module(network)
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY
    )
    steps = math.ceil(len(pixels) / _BATCH)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, _LEARNING_RATE, total_steps=network.epochs * steps, pct_start=0.1
    )
    parts = {"module": module, "optimiser": optimiser, "rates": rates}
    done = 0
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        done = kept.pop("epochs")
        for name, part in parts.items():
            part.load_state_dict(kept[name])
    for epoch in range(done, min(done + at_most, network.epochs)):
        loss = _epoch(module, optimiser, rates, pixels, classes, network, epoch)
        print(f"{network.name}: epoch {epoch + 1} of {network.epochs}, loss {loss:.4f}", flush=True)
        done = epoch + 1
        partial = checkpoint.with_suffix(".partial")
        torch.save({"epochs": done} | {k: part.state_dict() for k, part in parts.items()}, partial)
        partial.replace(checkpoint)
    if done < network.epochs:
        return None
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def _epoch(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    rates: torch.optim.lr_scheduler.LRScheduler,
    pixels: Pixels,
    classes: Pixels,
    network: Network,
    epoch: int,
) -> float:
    """Go through all images once; return the mean loss."""
    torch.manual_seed(_SEED + epoch)
    rng = np.random.default_rng((_SEED, epoch))
    module.train()
    total = 0.0
    for chosen in np.array_split(rng.permutation(len(pixels)), math.ceil(len(pixels) / _BATCH)):
        grey = _augmented(pixels[chosen], rng).astype(np.float32)
        x = torch.from_numpy((grey - network.pipeline.mean[0]) / network.pipeline.std[0])[:, None]
        y = torch.from_numpy(classes[chosen].astype(np.int64))
        loss = functional.cross_entropy(module(x.contiguous(memory_format=torch.channels_last)), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
        total += loss.item() * len(chosen)
    return total / len(pixels)


def _augmented(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Return the images, mirrored in half of the cases and moved; the background is 0."""
    made = np.zeros_like(pixels)
    height, width = pixels.shape[1:]
    for k, one in enumerate(pixels):
        source = one[:, ::-1] if rng.random() < 0.5 else one
        down, right = rng.integers(-_SHIFT_PX, _SHIFT_PX + 1, 2)
        made[k, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = (
            source[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
        )
    return made


def _module(network: Network) -> nn.Module:
    """Return the network for one grey channel; its parameters are named as ``networks`` reads."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, side = 1, network.pipeline.crop_px[0]
    features = 0
    for layer in network.layers:
        if isinstance(layer, Conv):
            conv = nn.Conv2d(channels, layer.channels, layer.kernel, padding=layer.pad, bias=False)
            norm = nn.BatchNorm2d(layer.channels)
            layers[layer.path] = nn.Sequential(OrderedDict(conv=conv, norm=norm, relu=nn.ReLU()))
            channels, side = layer.channels, side + 2 * layer.pad - layer.kernel + 1
        elif isinstance(layer, Pool):
            layers[layer.path] = nn.MaxPool2d(layer.kernel, layer.stride)
            side = (side - layer.kernel) // layer.stride + 1
        elif isinstance(layer, Linear):
            if not features:
                layers["flatten"], features = nn.Flatten(), channels * side * side
            layers[f"{layer.path}_dropout"] = nn.Dropout(layer.dropout)
            layers[layer.path] = nn.Linear(features, layer.features)
            features = layer.features
            if layer is not network.layers[-1]:
                layers[f"{layer.path}_relu"] = nn.ReLU()
    return nn.Sequential(layers).to(memory_format=torch.channels_last)
