"""Caption decoders: a recurrent cell and the way the image enters it, under one step protocol."""

from captionlab.decoders.attention import AttentionConditioning
from captionlab.decoders.conditioning import Conditioning, PreInjectConditioning
from captionlab.decoders.protocol import Decoder, DecoderState, TeacherForced
from captionlab.decoders.recurrent import RecurrentDecoder

__all__ = [
    "AttentionConditioning",
    "Conditioning",
    "Decoder",
    "DecoderState",
    "PreInjectConditioning",
    "RecurrentDecoder",
    "TeacherForced",
]
