"""Which options each group of the configuration has, read from the constructors that take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from annotated_types import Ge

from captionlab.batches import Loaders, encode_captions
from captionlab.corpora.datasets import CaptionDataset
from captionlab.decoders import Conditioning, Decoder
from captionlab.encoders import Encoder
from captionlab.features.external import FeatureFile
from captionlab.features.source import EncoderFeatures
from captionlab.images.augmentation import Augmentation
from captionlab.objectives import Objective
from captionlab.options import REQUIRED, Count, Option, find_part, options_of, renamed
from captionlab.search import Search
from captionlab.text import Tokenizer, Vocabulary
from captionlab.training.optimizers import OptimizerFactory, parameter_groups
from captionlab.training.schedules import Schedule
from captionlab.training.trainer import TrainerOptions


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that belong to no group.

    Args:
        name: runs of one name share a folder and a report.
        seed: of everything that is drawn.
        compile: whether the training step runs through torch.compile, which takes minutes to start.
        init_from: folder of a finished run, a checkpoint or an exported file, whose weights this
            run starts from.
        monitor: the validation score that chooses the best checkpoint and stops early:
            val/cider_d, val/bleu_1 to val/bleu_4 or val/rouge_l.
        runs_dir: where run folders are created.
        cache_dir: where generated data and stored features are kept.
        n_jobs: runs of a sweep at a time, on this machine.
        repeats: runs of each combination of a sweep, with seeds `seed`, `seed + 1` and so on.
        retry: whether a run of a sweep that failed before is tried again.
        test: whether the trained run is scored on the test images; false leaves that to a later
            `test=true` of the same run.
    """

    name: str
    seed: Annotated[int, Ge(0)]
    compile: bool
    init_from: str | None
    monitor: str
    runs_dir: str
    cache_dir: str
    n_jobs: Count = 1
    repeats: Count = 1
    retry: Literal["failed", "none"] = "failed"
    test: bool = True


@dataclass(frozen=True)
class Group:
    """A group of the configuration.

    Attributes:
        role: base class of what its `_target_` names; None where it names none.
        others: options of the group that are not its part's own, by name.
    """

    role: type | None
    others: Mapping[str, Option]

    def options(self, spec: Mapping[str, Any]) -> dict[str, Option]:
        """All options of the group for the part that `spec` names.

        Raises:
            ConfigError: if it names no part of the group's role.
        """
        if self.role is None:
            return dict(self.others)
        own = options_of(find_part(spec["_target_"], self.role)) if "_target_" in spec else {}
        name = Option("name", str, (), REQUIRED, "of the option, in tables and run folders")
        return {"name": name, **own, **self.others}

    def conflict(self, spec: Mapping[str, Any]) -> str | None:
        """Which options of the part do not go together, as the part says it."""
        if self.role is None or "_target_" not in spec:
            return None
        part: Any = find_part(spec["_target_"], self.role)
        return part.conflict(spec) if hasattr(part, "conflict") else None


# Groups that describe other people's classes, which Hydra makes: any key goes.
OPEN_GROUPS = ("logger", "callbacks")


@cache
def groups() -> Mapping[str, Group]:
    """All groups but `OPEN_GROUPS`, by name."""
    of_data = {
        **renamed(options_of(Vocabulary.build), min_count="min_count", max_vocabulary="max_size"),
        **renamed(options_of(encode_captions), max_caption_length="max_caption_length"),
        **options_of(Loaders),
        **renamed(
            options_of(EncoderFeatures),
            num_workers="num_workers",
            stored_features="stored_features",
        ),
        **options_of(FeatureFile),
    }
    of_data.pop("seed")
    of_encoder = {
        **renamed(options_of(EncoderFeatures), batch_size="batch_size"),
        **renamed(options_of(parameter_groups), lr="lr"),
    }
    return {
        "data": Group(CaptionDataset, of_data),
        "tokenizer": Group(Tokenizer, {}),
        "augmentation": Group(Augmentation, {}),
        "encoder": Group(Encoder, of_encoder),
        "decoder": Group(Decoder, {}),
        "conditioning": Group(Conditioning, {}),
        "objective": Group(Objective, {}),
        "search": Group(Search, {}),
        "optimizer": Group(OptimizerFactory, {}),
        "schedule": Group(Schedule, {}),
        "trainer": Group(None, options_of(TrainerOptions)),
    }
