"""Xception, with the names and shapes of its widely published ImageNet weights.

Source: Chollet 2017, fig. 5. The names are those of the PyTorch port that the weights come from, so
that its file loads unchanged.
"""

from __future__ import annotations

import re
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import relu

from captionlab.encoders.classifier import Classifier, ClassifierEncoder
from captionlab.types import Preprocessing

_URL = "http://data.lip6.fr/cadene/pretrainedmodels/xception-43020ad28.pth"
# Some copies of the file call the classifier by its later name.
_LATER_NAME = re.compile(r"^last_linear\b")


class SeparableConv2d(nn.Module):
    """A 3x3 convolution of each channel, then one across channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        pointwise: Tensor = self.pointwise(self.conv1(maps))
        return pointwise


class Block(nn.Module):
    """Separable convolutions with a residual connection.

    Args:
        widths: channels before the first convolution and after each.
        stride: 2 halves the map.
        begins_with_relu: whether a ReLU comes first.
    """

    def __init__(self, widths: list[int], stride: int, begins_with_relu: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.ReLU(), SeparableConv2d(before, after), nn.BatchNorm2d(after)]
        if not begins_with_relu:
            del layers[0]
        self.skip: nn.Module = nn.Identity()
        self.skipbn: nn.Module = nn.Identity()
        if stride > 1:
            layers.append(nn.MaxPool2d(3, stride, padding=1))
            self.skip = nn.Conv2d(widths[0], widths[-1], 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(widths[-1])
        self.rep = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        summed: Tensor = self.rep(maps) + self.skipbn(self.skip(maps))
        return summed


class Xception(nn.Module):
    """The classifier: 22,855,952 parameters; (B, 3, 299, 299) to (B, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.block1 = Block([64, 128, 128], stride=2, begins_with_relu=False)
        self.block2 = Block([128, 256, 256], stride=2)
        self.block3 = Block([256, 728, 728], stride=2)
        for number in range(4, 12):
            self.add_module(f"block{number}", Block([728] * 4, stride=1))
        self.block12 = Block([728, 728, 1024], stride=2)
        self.conv3 = SeparableConv2d(1024, 1536)
        self.bn3 = nn.BatchNorm2d(1536)
        self.conv4 = SeparableConv2d(1536, 2048)
        self.bn4 = nn.BatchNorm2d(2048)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, images: Tensor) -> Tensor:
        maps = relu(self.bn1(self.conv1(images)))
        maps = relu(self.bn2(self.conv2(maps)))
        for number in range(1, 13):
            maps = self.get_submodule(f"block{number}")(maps)
        maps = relu(self.bn3(self.conv3(maps)))
        maps = relu(self.bn4(self.conv4(maps)))  # (B, 2048, 10, 10)
        logits: Tensor = self.fc(maps.mean((2, 3)))
        return logits


class XceptionEncoder(ClassifierEncoder):
    """Xception up to its last feature map.

    Args and errors are those of `ClassifierEncoder`.
    """

    @classmethod
    def published(cls) -> Classifier:
        """See `ClassifierEncoder`."""
        return Classifier(
            name="xception",
            build=Xception,
            source=_URL,
            preprocessing=Preprocessing(299, 299, "bilinear", (0.5,) * 3, (0.5,) * 3),
            rename=partial(_LATER_NAME.sub, "fc"),
        )
