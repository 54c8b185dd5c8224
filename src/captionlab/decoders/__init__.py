"""Caption decoders: a recurrent cell and the way the image enters it, or a Transformer, under one
step protocol.
"""

from captionlab.decoders.attention import AttentionConditioning, DotAttentionConditioning
from captionlab.decoders.conditioning import Conditioning
from captionlab.decoders.injection import (
    InitInjectConditioning,
    ParInjectConditioning,
    PreInjectConditioning,
)
from captionlab.decoders.merge import MergeConditioning
from captionlab.decoders.protocol import Decoder, DecoderState, TeacherForced
from captionlab.decoders.recurrent import RecurrentDecoder
from captionlab.decoders.transformer import TransformerDecoder

__all__ = [
    "AttentionConditioning",
    "Conditioning",
    "Decoder",
    "DecoderState",
    "DotAttentionConditioning",
    "InitInjectConditioning",
    "MergeConditioning",
    "ParInjectConditioning",
    "PreInjectConditioning",
    "RecurrentDecoder",
    "TeacherForced",
    "TransformerDecoder",
]
