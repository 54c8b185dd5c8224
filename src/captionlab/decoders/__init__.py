"""Caption decoders: a recurrent cell and a conditioning on the image, or a Transformer.

All have the same step protocol.
"""

from captionlab.decoders.attention import AttentionConditioning, DotAttentionConditioning
from captionlab.decoders.conditioning import Conditioning, ImageVector
from captionlab.decoders.injection import (
    InitInjectConditioning,
    ParInjectConditioning,
    PreInjectConditioning,
)
from captionlab.decoders.merge import MergeConditioning
from captionlab.decoders.protocol import Decoder, DecoderState, PreparedImage, TeacherForced
from captionlab.decoders.recurrent import RecurrentDecoder
from captionlab.decoders.transformer import TransformerDecoder

__all__ = [
    "AttentionConditioning",
    "Conditioning",
    "Decoder",
    "DecoderState",
    "DotAttentionConditioning",
    "ImageVector",
    "InitInjectConditioning",
    "MergeConditioning",
    "ParInjectConditioning",
    "PreInjectConditioning",
    "PreparedImage",
    "RecurrentDecoder",
    "TeacherForced",
    "TransformerDecoder",
]
