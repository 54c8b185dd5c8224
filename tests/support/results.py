"""Run folders that hold results and captions alone, on a few drawings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from captionlab.corpora import CaptionCorpus
from captionlab.corpora.datasets import Shapes

NUM_IMAGES = 30
_DATA = {"num_train": 3, "num_val": 2, "num_test": NUM_IMAGES, "image_size": 32}


class Results:
    """Makes run folders and the drawings that their captions are about.

    Args:
        folder: gets `data` and a folder per run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data: dict[str, Any] = {
            "_target_": "captionlab.corpora.datasets.Shapes",
            "name": "shapes",
            "root": str(folder / "data"),
            **_DATA,
            "generator_seed": 0,
            "on_bad_image": "error",
        }
        self.corpus: CaptionCorpus = Shapes(folder / "data", **_DATA, generator_seed=0).read_all()

    def run(
        self,
        encoder: str,
        decoder: str,
        seed: int = 0,
        score: float = 0.5,
        captions: Mapping[str, str] | None = None,
        **config: Any,
    ) -> Path:
        """A finished run, which writes an image's first reference unless told otherwise.

        Args:
            encoder: its name.
            decoder: its name.
            seed: of the run.
            score: CIDEr-D of the run; that of its captions is spread around it.
            captions: image id to what it wrote.
            config: more of the configuration.
        """
        path = self.folder / f"{encoder}-{decoder}-s{seed}".replace("/", "_")
        path.mkdir()
        whole = {
            "name": "made_up",
            "seed": seed,
            "monitor": "val/cider_d",
            "cache_dir": str(self.folder),
            "data": self.data,
            "encoder": {"name": encoder},
            "decoder": {"name": decoder},
            **config,
        }
        (path / "config.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
        (path / "status.json").write_text(json.dumps({"state": "complete", "error": None}))
        manifest = {
            "corpus": self.corpus.fingerprint,
            "command": ["run.py", f"encoder={encoder}", f"decoder={decoder}", "note=a b"],
            "versions": {"captionlab": "0.1.0", "torch": "2.14"},
            "machine": {"device": "cpu"},
        }
        (path / "manifest.json").write_text(json.dumps(manifest))
        (path / "result.json").write_text(json.dumps(_result(encoder, decoder, score)))
        lines = ["epoch,step,val/cider_d,val/loss"]
        lines += [f"{i},{9 * i},{score * (i + 1) / 4},{3 / (i + 1)}" for i in range(4)]
        (path / "metrics.csv").write_text("\n".join(lines) + "\n")
        rows = []
        for i, image in enumerate(self.corpus.splits["test"]):
            text = (captions or {}).get(image.image_id, image.captions[0].lower().rstrip(" ."))
            value = score + 0.01 * ((7 * i + len(encoder)) % 11 - 5)
            rows.append(
                {
                    "image_id": image.image_id,
                    "caption": text,
                    "scores": {"cider_d": value},
                    "statistics": {},
                }
            )
        (path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def failed(self, name: str, error: str) -> Path:
        """A run without a result."""
        path = self.folder / name
        path.mkdir()
        (path / "config.yaml").write_text("name: made_up\nseed: 9\n")
        (path / "status.json").write_text(json.dumps({"state": "failed", "error": error}))
        return path


def _result(encoder: str, decoder: str, score: float) -> dict[str, Any]:
    return {
        "scores": {"cider_d": score, "bleu_4": score / 4},
        "missing": {},
        "blind": {"cider_d": 0.1},
        "human": {"cider_d": 1.5, "bleu_4": 0.4},
        "language": {},
        "truth": {"all": 0.5},
        "warnings": [],
        "num_images": NUM_IMAGES,
        "parameters": {"encoder": 1e6 * len(encoder), "encoder_trained": 0, "decoder": 5e5},
        "seconds": {"encode": 10.0, "train": 20.0 * len(decoder), "test": 1.0},
        "epochs": 4,
        "best_epoch": 4,
        "best_validation": {"val/cider_d": score},
        "peak_memory_bytes": 2_000_000_000,
    }
