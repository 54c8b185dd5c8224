"""Where and how one run computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from captionlab.config import build
from captionlab.devices import find_device
from captionlab.errors import ConfigError
from captionlab.runs import engine
from captionlab.runs.engine import execute
from captionlab.runs.folder import RunFolder
from tests.support.configs import checked
from tests.support.runs import OPTIONS, SMALL


class ReachedError(Exception):
    """Where a test has seen enough of a run."""


@pytest.mark.parametrize(
    ("devices", "expected"),
    [("auto", 0), (2, 0), ("2", 0), (-1, 0), ([2], 2), ([3, 1], 3), ("1,2", 1), ("2,", 2)],
)
def test_the_first_device_is_the_first_that_is_listed(
    devices: int | str | list[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _four_gpus(monkeypatch)
    assert find_device("auto", devices) == torch.device("cuda", expected)
    assert find_device("cpu", devices) == torch.device("cpu")


def test_a_listed_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _four_gpus(monkeypatch)
    with pytest.raises(ConfigError, match=r"trainer.devices=\[4\]: this machine has no GPU 4"):
        find_device("gpu", [4])


def _four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def test_a_process_encodes_and_decodes_on_the_device_of_its_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = checked(*OPTIONS, *SMALL, f"cache_dir={tmp_path}/data", "trainer.precision=auto")
    make_trainer, make_data = build.build_trainer, build.build_data

    def second_process(*args: Any) -> Any:
        trainer = make_trainer(*args)
        trainer.strategy._root_device = torch.device("meta")
        return trainer

    def data(config: dict[str, Any], device: torch.device) -> None:
        assert device == torch.device("meta")
        assert config["trainer"]["precision"] != "auto", "one for all processes"
        raise ReachedError

    monkeypatch.setattr(build, "build_trainer", second_process)
    monkeypatch.setattr(build, "build_data", data)
    folder = RunFolder(tmp_path / "run")
    with folder.lock(), pytest.raises(ReachedError):
        execute(config, folder)

    make_data(config)  # encoded, so that nothing has to compute there
    on_meta = make_data(config, torch.device("meta"))
    assert on_meta.source.device == torch.device("meta")


@pytest.mark.parametrize(
    ("earlier", "now", "expected"),
    [
        ("bf16-mixed", "bf16-mixed", "bf16-mixed"),
        ("bf16-mixed", "16-mixed", "bf16-mixed, then 16-mixed"),
        ("32-true, then bf16-mixed", "bf16-mixed", "32-true, then bf16-mixed"),
    ],
)
def test_a_change_of_the_number_format_is_told(
    tmp_path: Path, earlier: str, now: str, expected: str
) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"machine": {"precision": earlier}}))
    assert engine.number_formats(folder, now, "a processor") == expected


def test_the_manifest_says_in_which_format_the_features_were_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those on disk are taken whatever the run computes in."""

    def train(*args: Any) -> None:
        raise ReachedError

    monkeypatch.setattr(engine, "_train", train)
    for i, (options, expected) in enumerate(
        [
            (["trainer.precision=bf16-mixed"], "torch.bfloat16"),
            (["trainer.precision=32-true"], "torch.bfloat16"),
            (["trainer.precision=32-true", "data.generator_seed=3"], "torch.float32"),
            (["encoder.train=last"], None),
        ]
    ):
        config = checked(*OPTIONS, *SMALL, f"cache_dir={tmp_path}/data", *options)
        folder = RunFolder(tmp_path / f"run{i}")
        with folder.lock(), pytest.raises(ReachedError):
            execute(config, folder)
        assert folder.manifest["encode_dtype"] == expected, options
