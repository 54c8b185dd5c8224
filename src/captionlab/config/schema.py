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
    suggested: Suggested = field(default_factory=Suggested)


@dataclass
class Shapes(Data):
    _target_: str = "captionlab.data.ShapesDataModule"
    num_train: int = MISSING
    num_val: int = MISSING
    num_test: int = MISSING
    image_size: int = MISSING
    generator_seed: int = MISSING


@dataclass
class Flickr8k(Data):
    _target_: str = "captionlab.data.Flickr8kDataModule"


@dataclass
class PTB:
    _target_: str = "captionlab.text.PTBTokenizer"
    name: str = MISSING


@dataclass
class TorchvisionEncoder:
    _target_: str = "captionlab.encoders.TorchvisionEncoder"
    name: str = MISSING
    architecture: str = MISSING
    weights: str = MISSING
    image_size: int | None = None
    init_seed: int = MISSING
    batch_size: int = MISSING


@dataclass
class RecurrentDecoder:
    _target_: str = "captionlab.decoders.RecurrentDecoder"
    name: str = MISSING
    cell: str = MISSING
    embedding_dim: int = MISSING
    hidden_dim: int = MISSING
    num_layers: int = MISSING
    dropout: float = MISSING


@dataclass
class Attention:
    _target_: str = "captionlab.decoders.AttentionConditioning"
    name: str = MISSING
    feature_dim: int = MISSING
    attention_dim: int = MISSING
    dropout: float = MISSING


@dataclass
class PreInject:
    _target_: str = "captionlab.decoders.PreInjectConditioning"
    name: str = MISSING


@dataclass
class CrossEntropy:
    _target_: str = "captionlab.objectives.CrossEntropy"
    name: str = MISSING
    label_smoothing: float = MISSING


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
class ConstantSchedule:
    _target_: str = "captionlab.training.schedules.ConstantSchedule"
    name: str = MISSING


@dataclass
class CosineSchedule:
    _target_: str = "captionlab.training.schedules.CosineSchedule"
    name: str = MISSING
    warmup_share: float = MISSING


@dataclass
class Config:
    """One run. Groups are checked by the schema that each of their files names."""

    data: Any = MISSING
    tokenizer: Any = MISSING
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
    init_from: str | None = None
    monitor: str = MISSING
    runs_dir: str = MISSING
    cache_dir: str = MISSING


SCHEMAS: dict[str, dict[str, type]] = {
    "data": {"shapes": Shapes, "flickr8k": Flickr8k},
    "tokenizer": {"ptb": PTB},
    "encoder": {"torchvision": TorchvisionEncoder},
    "decoder": {"recurrent": RecurrentDecoder},
    "conditioning": {"attention": Attention, "pre_inject": PreInject},
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
    "optimizer": {"adamw": AdamW},
    "schedule": {"none": ConstantSchedule, "cosine": CosineSchedule},
}


def register_schemas() -> None:
    """Make the schemas known to Hydra, as `schema` and `schema/<group>/<name>`."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, schemas in SCHEMAS.items():
        for name, schema in schemas.items():
            store.store(group=f"schema/{group}", name=name, node=schema)
