"""Seeds, schedules, curves on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captionlab.training.loggers import MetricsCSV
from captionlab.training.precision import resolve_precision
from captionlab.training.schedules import ConstantSchedule, CosineSchedule
from captionlab.training.seeding import derive_seed, seeded


def test_each_part_draws_from_a_seed_of_its_own() -> None:
    with seeded(0, "decoder"):
        first = torch.rand(3)
    torch.rand(100)  # whatever was built in between
    with seeded(0, "decoder"):
        assert torch.equal(torch.rand(3), first)
    with seeded(0, "conditioning"):
        assert not torch.equal(torch.rand(3), first)
    assert derive_seed(0, "decoder") != derive_seed(1, "decoder")


def test_seeding_a_part_leaves_the_state_outside() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with seeded(0, "decoder"):
        torch.rand(7)
    assert torch.equal(torch.rand(2), expected)


def rates(schedule: CosineSchedule | ConstantSchedule, num_steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = schedule(optimizer, num_steps)
    found = []
    for _ in range(num_steps):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


def test_the_cosine_rises_then_falls_to_nothing() -> None:
    found = rates(CosineSchedule(warmup_share=0.1), 100)
    assert found[0] == pytest.approx(1 / 11)
    assert max(found) == found[10] == 1.0
    assert found[55] == pytest.approx(0.5)
    assert found[-1] < 1e-3
    assert set(rates(ConstantSchedule(), 5)) == {1.0}


def test_auto_precision_is_fp32_where_bf16_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for has_tiles, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda found=has_tiles: found)
        assert resolve_precision("auto", cpu) == expected
    assert resolve_precision("16-mixed", cpu) == "16-mixed"


def test_a_resumed_run_keeps_the_earlier_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsCSV(path)
    first.log_metrics({"epoch": 0, "val/loss": 2.0, "train/loss_step": 9.0}, step=10)
    first.log_metrics({"lr": 1.0}, step=11)
    first.save()
    second = MetricsCSV(path)
    second.log_metrics({"epoch": 1, "val/loss": 1.0, "val/bleu_4": 0.5}, step=20)
    second.save()
    assert path.read_text().splitlines() == [
        "epoch,step,val/bleu_4,val/loss",
        "0,10,,2",
        "1,20,0.5,1",
    ]
