"""The shape and type of every option, so that a typo stops a sweep before its first job.

Values live in `conf/`. Each class names what it builds in `_target_`; options that describe other
people's classes (Trainer, loggers, callbacks) stay plain YAML.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class Suggested:
    """What other groups use on this data unless told otherwise."""

    encoder_weights: str = MISSING
    encoder_image_size: int | None = None
    max_epochs: int = MISSING
    hidden_dim: int = MISSING
    attention_dim: int = MISSING
    dropout: float = MISSING
    lr: float = MISSING


@dataclass
class Data:
    name: str = MISSING
    root: str = MISSING
    min_count: int = MISSING
    max_vocabulary: int | None = None
    max_caption_length: int = MISSING
    batch_size: int = MISSING
    eval_batch_size: int = MISSING
    num_workers: int | None = None
    stored_features: str = MISSING
    group_by_length: bool = MISSING
    on_bad_image: str = MISSING
    suggested: Suggested = field(default_factory=Suggested)


@dataclass
class Shapes(Data):
    _target_: str = "captionlab.batches.ShapesDataModule"
    num_train: int = MISSING
    num_val: int = MISSING
    num_test: int = MISSING
    image_size: int = MISSING
    generator_seed: int = MISSING


@dataclass
class Folder(Data):
    _target_: str = "captionlab.batches.FolderDataModule"
    dialect: str = MISSING
    split_seed: int = MISSING


@dataclass
class Flickr8k(Folder):
    _target_: str = "captionlab.batches.Flickr8kDataModule"


@dataclass
class Flickr30k(Folder):
    _target_: str = "captionlab.batches.Flickr30kDataModule"


@dataclass
class COCO(Folder):
    _target_: str = "captionlab.batches.COCODataModule"
    use_restval: bool = MISSING


@dataclass
class PTB:
    _target_: str = "captionlab.text.PTBTokenizer"
    name: str = MISSING


@dataclass
class Cleaned:
    _target_: str = "captionlab.text.CleanedTokenizer"
    name: str = MISSING


@dataclass
class Spacy:
    _target_: str = "captionlab.text.SpacyTokenizer"
    name: str = MISSING
    language: str = MISSING


@dataclass
class Flip:
    _target_: str = "captionlab.images.FlipAugmentation"
    name: str = MISSING


@dataclass
class Crop:
    _target_: str = "captionlab.images.CropAugmentation"
    name: str = MISSING
    enlarge: float = MISSING


@dataclass
class RandomViews:
    _target_: str = "captionlab.images.RandomAugmentation"
    name: str = MISSING
    num_views: int = MISSING
    degrees: float = MISSING
    translate: float = MISSING
    scale: float = MISSING
    shear: float = MISSING
    crop: float = MISSING
    colour: float = MISSING
    seed: int = MISSING


@dataclass
class Encoder:
    name: str = MISSING
    weights: str = MISSING
    image_size: int | None = None
    init_seed: int = MISSING
    pooled: str = MISSING
    batch_size: int = MISSING
    train: str = "none"  # or last, all, or how many of the last stages
    lr: float | None = None  # of what is trained; a tenth of the optimizer's unless given
    grid_size: int | None = None  # rows and columns of the map; the network's own unless given


@dataclass
class TorchvisionEncoder(Encoder):
    _target_: str = "captionlab.encoders.TorchvisionEncoder"
    architecture: str = MISSING


@dataclass
class XceptionEncoder(Encoder):
    _target_: str = "captionlab.encoders.XceptionEncoder"


@dataclass
class Decoder:
    name: str = MISSING
    embedding_dim: int = MISSING
    hidden_dim: int = MISSING
    num_layers: int = MISSING
    dropout: float = MISSING
    word_vectors: str | None = None
    tie_embeddings: bool = False
    freeze_embeddings: bool = False


@dataclass
class RecurrentDecoder(Decoder):
    _target_: str = "captionlab.decoders.RecurrentDecoder"
    cell: str = MISSING
    output_dropout: float | None = None


@dataclass
class TransformerDecoder(Decoder):
    _target_: str = "captionlab.decoders.TransformerDecoder"
    num_heads: int = MISSING
    feedforward_ratio: int = MISSING
    positions: str = MISSING


@dataclass
class Attention:
    _target_: str = "captionlab.decoders.AttentionConditioning"
    name: str = MISSING
    feature_dim: int | None = MISSING
    attention_dim: int = MISSING
    dropout: float = MISSING


@dataclass
class DotAttention(Attention):
    _target_: str = "captionlab.decoders.DotAttentionConditioning"
    num_heads: int = MISSING


@dataclass
class InitInject:
    _target_: str = "captionlab.decoders.InitInjectConditioning"
    name: str = MISSING
    dropout: float = MISSING


@dataclass
class PreInject(InitInject):
    _target_: str = "captionlab.decoders.PreInjectConditioning"
    batch_norm_momentum: float | None = None


@dataclass
class ParInject(InitInject):
    _target_: str = "captionlab.decoders.ParInjectConditioning"
    image_dim: int = MISSING
    first_only: bool = MISSING


@dataclass
class Merge(InitInject):
    _target_: str = "captionlab.decoders.MergeConditioning"
    combine: str = MISSING
    dense: bool = MISSING


@dataclass
class CrossEntropy:
    _target_: str = "captionlab.objectives.CrossEntropy"
    name: str = MISSING
    label_smoothing: float = MISSING
    doubly_stochastic: float = MISSING


@dataclass
class ScheduledSampling:
    _target_: str = "captionlab.objectives.ScheduledSampling"
    name: str = MISSING
    decay: str = MISSING
    first_share: float = MISSING
    last_share: float = MISSING


@dataclass
class SelfCritical:
    _target_: str = "captionlab.objectives.SelfCritical"
    name: str = MISSING
    max_length: int = MISSING
    baseline: str = MISSING
    num_samples: int = MISSING
    temperature: float = MISSING
    bleu_weight: float = MISSING


@dataclass
class Greedy:
    _target_: str = "captionlab.search.GreedySearch"
    name: str = MISSING
    max_length: int = MISSING


@dataclass
class Beam(Greedy):
    _target_: str = "captionlab.search.BeamSearch"
    beam_size: int = MISSING
    length_penalty: float = MISSING
    min_length: int = MISSING
    block_ngrams: int | None = None
    forbidden_endings: list[str] = MISSING


@dataclass
class DiverseBeam(Beam):
    _target_: str = "captionlab.search.DiverseBeamSearch"
    num_groups: int = MISSING
    diversity_strength: float = MISSING


@dataclass
class Sample(Greedy):
    _target_: str = "captionlab.search.SampleSearch"
    temperature: float = MISSING
    top_k: int | None = None
    top_p: float = MISSING
    seed: int = MISSING


@dataclass
class AdamW:
    _target_: str = "torch.optim.AdamW"
    name: str = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING
    betas: tuple[float, float] = MISSING


@dataclass
class Adam:
    _target_: str = "torch.optim.Adam"
    name: str = MISSING
    lr: float = MISSING
    betas: tuple[float, float] = MISSING


@dataclass
class SGD:
    _target_: str = "torch.optim.SGD"
    name: str = MISSING
    lr: float = MISSING
    momentum: float = MISSING


@dataclass
class ConstantSchedule:
    _target_: str = "captionlab.training.schedules.ConstantSchedule"
    name: str = MISSING


@dataclass
class CosineSchedule:
    _target_: str = "captionlab.training.schedules.CosineSchedule"
    name: str = MISSING
    warmup_share: float = MISSING


@dataclass
class PlateauSchedule:
    _target_: str = "captionlab.training.schedules.PlateauSchedule"
    name: str = MISSING
    factor: float = MISSING
    patience: int = MISSING


@dataclass
class Config:
    """One run. Groups are checked by the schema that each of their files names."""

    data: Any = MISSING
    tokenizer: Any = MISSING
    augmentation: Any = None
    encoder: Any = MISSING
    decoder: Any = MISSING
    conditioning: Any = MISSING
    objective: Any = MISSING
    search: Any = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    trainer: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    name: str = MISSING
    seed: int = MISSING
    compile: bool = False
    init_from: str | None = None
    monitor: str = MISSING
    runs_dir: str = MISSING
    cache_dir: str = MISSING


SCHEMAS: dict[str, dict[str, type]] = {
    "data": {
        "shapes": Shapes,
        "captions": Folder,
        "flickr8k": Flickr8k,
        "flickr30k": Flickr30k,
        "coco": COCO,
    },
    "tokenizer": {"ptb": PTB, "cleaned": Cleaned, "spacy": Spacy},
    "augmentation": {"flip": Flip, "crop": Crop, "random": RandomViews},
    "encoder": {"torchvision": TorchvisionEncoder, "xception": XceptionEncoder},
    "decoder": {"recurrent": RecurrentDecoder, "transformer": TransformerDecoder},
    "conditioning": {
        "attention": Attention,
        "dot_attention": DotAttention,
        "init_inject": InitInject,
        "pre_inject": PreInject,
        "par_inject": ParInject,
        "merge": Merge,
    },
    "objective": {
        "cross_entropy": CrossEntropy,
        "scheduled_sampling": ScheduledSampling,
        "self_critical": SelfCritical,
    },
    "search": {
        "greedy": Greedy,
        "beam": Beam,
        "diverse_beam": DiverseBeam,
        "sample": Sample,
    },
    "optimizer": {"adam": Adam, "adamw": AdamW, "sgd": SGD},
    "schedule": {
        "none": ConstantSchedule,
        "cosine": CosineSchedule,
        "plateau": PlateauSchedule,
    },
}


def register_schemas() -> None:
    """Make the schemas known to Hydra, as `schema` and `schema/<group>/<name>`."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, schemas in SCHEMAS.items():
        for name, schema in schemas.items():
            store.store(group=f"schema/{group}", name=name, node=schema)
