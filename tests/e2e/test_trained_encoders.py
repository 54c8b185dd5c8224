"""The real command, training the encoder too."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch

from captionlab.cli import main
from tests.e2e.test_commands import read, run, run_folders
from tests.support.processes import with_defaults


def test_an_encoder_is_trained_evaluated_and_gone_on_from(tmp_path: Path) -> None:
    arguments = (
        "encoder=resnet18",
        "encoder.train=last",
        "augmentation=flip",
        "encoder.stage=null",
    )
    arguments += ("trainer.max_epochs=5", "data.batch_size=8", "data.num_workers=1")
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "encoding" not in done.stdout
    assert not (tmp_path / "data" / "features").exists()
    (folder,) = run_folders(tmp_path)
    result = read(folder / "result.json")
    assert result["parameters"]["encoder_trained"] == 8_393_728  # type: ignore[index]
    assert result["seconds"]["encode"] == 0  # type: ignore[index]
    assert read(folder / "manifest.json")["features"] is None
    checkpoint = folder / "checkpoints" / "best.ckpt"
    saved = torch.load(checkpoint, weights_only=True)
    assert "encoder.trunk.layer1.0.conv1.weight" in saved["state_dict"], "frozen stages too"
    assert saved["captionlab"]["features"]["encoder"].startswith("resnet18/")

    lines = (folder / "predictions.jsonl").read_text().splitlines()
    written = {row["image_id"]: row["caption"] for row in map(json.loads, lines)}
    assert main(["evaluate", str(checkpoint), "--out", str(tmp_path / "out")]) == 0
    with (tmp_path / "out" / "best-shapes-test" / "per_image.csv").open() as file:
        assert {row["image_id"]: row["caption"] for row in csv.DictReader(file)} == written

    second = (*arguments, f"init_from={folder}", "+trainer.limit_train_batches=1")
    done = run(tmp_path, *with_defaults(second, ["encoder.train=all", "encoder.lr=1e-5"]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(run_folders(tmp_path)) == 2
    refused = run(tmp_path, *with_defaults(second, ["encoder.train=none"]))
    assert refused.returncode == 1
    told = refused.stdout + refused.stderr
    assert "error: init_from=" in told
    assert "has trained its encoder, which is frozen in this run" in told
    assert "Traceback" not in told
