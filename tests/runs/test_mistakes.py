"""Forty mistakes and more: each is one or two lines that say what to do, and leaves nothing."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from captionlab.config.overrides import check_overrides
from captionlab.runs.main import config_loader, main
from tests.support.fakes import FAKES

# What is typed, and what must stand in the answer.
MISTAKES: dict[str, Sequence[tuple[str, str]]] = {
    "names": [
        ("encodr=resnet18", "unknown option encodr; did you mean encoder?"),
        ("+encodr=resnet18", "unknown option encodr; did you mean encoder?"),
        ("encodr.weights=none", "unknown option encodr.weights; did you mean encoder.weights?"),
        ("sed=1", "did you mean seed?"),
        ("decoder.hiden_dim=8", "did you mean decoder.hidden_dim?"),
        ("+decoder.hiden_dim=8", "did you mean decoder.hidden_dim?"),
        ("hidden_dim=8", "did you mean decoder.hidden_dim?"),
        ("decoder.lr=1", "did you mean encoder.lr or optimizer.lr?"),
        ("encoder=resnet99", "did you mean resnet? It can be convnext_tiny"),
        ("encoder=", "it can be convnext_tiny"),
        ("encoder=[vgg,resnet]", "it can be convnext_tiny"),
        ("experiment=show_and_tel", "did you mean show_and_tell?"),
        ("callbacks.early_stopping.patiense=3", "did you mean callbacks.early_stopping.patience?"),
        ("~decoder", "a group cannot be removed; choose an option"),
        ("+encoder=vgg", "encoder is set already; leave the + out"),
        ("+decoder.dropout=0.3", "decoder.dropout is set already; leave the + out"),
        ("--confg-dir=x", "did you mean --config-dir?"),
        ("--config-dir /nowhere", "--config-dir /nowhere is no folder; give the one that"),
        ("--config-dir", "--config-dir/-cd: expected one argument"),
        ("--cfg job -m", "--multirun and --cfg exclude each other; keep one"),
    ],
    "words": [
        ("encoder", "cannot read 'encoder': expected NAME=VALUE, such as encoder="),
        ("seed==3", "cannot read 'seed==3': expected NAME=VALUE"),
        (
            "encoder=vgg,resnet",
            "needs -m (a list is written [a,b]); run\n  python run.py -m enc",
        ),
        ("seed=range(0,3)", "run\n  python run.py -m 'seed=range(0,3)'"),
        ("encoder=vgg encoder=resnet", "encoder is given twice, as encoder=vgg and as encoder=re"),
        ("decoder=gru -m seed=1 seed=2", "seed is given twice, as seed=1 and as seed=2; keep one"),
        ("-m seed=range(0,0)", "seed=range(0,0) has no values"),
        ("-m encoder=vgg, decoder=lstm", "a value is missing after its last comma, or a blank"),
        ("data.root=/Bücher", "'ü' must stand in quotes of its own, as in 'data.root=\"/Bücher\"'"),
        ("data.root=~/x", "'~' must stand in quotes of its own, as in 'data.root=\"~/x\"'"),
        ("-m encoder=glob(nope*)", "encoder=glob(nope*) has no values"),
    ],
    "values": [
        ("decoder.hidden_dim=many", "must be a whole number of at least 1, found many"),
        ("decoder.hidden_dim=-5", "decoder.hidden_dim must be a whole number of at least 1"),
        ("decoder.dropout=1.5", "must be a number of at least 0 and less than 1, found 1.5"),
        ("seed=-1", "seed must be a whole number of at least 0, found -1"),
        ("-m seed=", "seed must be a whole number of at least 0, found nothing"),
        ("-m decoder.hidden_dim=8,x", "decoder.hidden_dim=x: decoder.hidden_dim must be"),
        ("-m encoder=resnet18,xception encoder.architecture=resnet34", "option encoder.architec"),
        ("name='a b'", "use letters, digits and . _ + - @"),
        ("name=../a", "use letters, digits and . _ + - @"),
        ("decoder.hidden_dim=${nowhere}", "Interpolation key 'nowhere' not found"),
        ("decoder._target_=captionlab.decoders.Nope", "cannot be imported"),
        ("monitor=val/loss", "monitor=val/loss is unknown; use val/cider_d"),
        ("init_from=/nowhere", "init_from=/nowhere does not exist; name a finished run"),
        ("init_from={empty}", "empty is no folder of a run; name one, such as runs/"),
        ("callbacks.early_stopping.monitor=val/bleu4", "is unknown; did you mean val/bleu_4?"),
        ("callbacks.early_stopping.monitor=val/loss", "mode=max would stop a training because it"),
        ("+trainer.fast_dev_run=true", "leaves validation images without a score to choose a"),
        ("+trainer.limit_val_batches=1", "leaves validation images without a score to choose a"),
        ("+trainer.overfit_batches=4", "leaves validation images without a score to choose a"),
        ("+trainer.check_val_every_n_epoch=99", "never validates, so that no checkpoint is chosen"),
        ("+trainer.callbacks=[x]", "is set by captionlab itself; add one by +callbacks.NAME="),
        ("optimizer.betas=[0.9]", "must be a list of 2, each a number of at least 0 and less than"),
        ("optimizer.betas=[0.9,1.5]", "optimizer.betas must be a list of 2, each a number of at"),
        ("callbacks.early_stopping=none", "leave it out by callbacks.early_stopping=null"),
        ("-m optimizer.lr=interval(1e-4,1e-2)", "a range to search in: run captionlab tune 'optim"),
        ("optimizer.lr=interval(1e-4,1e-2)", "a range to search in: run captionlab tune"),
        ("-m decoder.num_layers=range(1,4,0)", "has no values (range() arg 3 must not be zero)"),
        ("optimizer.lr=inf", "optimizer.lr must be a number of more than 0, found inf"),
        ("callbacks.early_stopping.patience=x", "patience must be a whole number of at least 1"),
        ("+callbacks.x._target_=nope.Nope", "callbacks.x._target_=nope.Nope cannot be imported"),
        ("+trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
        ("tokenizer=spacy tokenizer.language=klingon", "klingon"),
        ("-m tokenizer=spacy tokenizer.language=en,klingon", "'klingon' is unknown to spaCy"),
        (
            "-m +callbacks.x._target_=pytorch_lightning.Callback,nope.Nope",
            "callbacks.x._target_=nope.Nope cannot be imported",
        ),
    ],
    "places": [
        ("data=flickr8k data.root=/nowhere", "data.root=/nowhere is not a folder; set data.root"),
        ("data.root={data}", "holds other files than data=shapes makes; add data=captions for"),
        ("data=captions data.root={empty}", "no captions were found in it or its folders"),
        ("data=captions data.root={data} data.dialect=cvs", "did you mean csv?"),
        ("data=captions data.root={lost}", "is missing (20 of 20 are); unpack all photos below"),
        ("runs_dir=/proc/x", "set runs_dir= to a folder that can"),
        ("cache_dir=/proc/x", "set cache_dir= to a folder that can"),
        ("runs_dir='\"~/x\"'", "would be a folder called ~ here; write the whole path, /"),
        ("init_from='\"~/nowhere\"'", "init_from=/"),
        ("-m seed=0,1 runs_dir=/proc/x", "set runs_dir= to a folder that can"),
    ],
    "weights": [
        ("encoder.weights=/no.pth", "'/no.pth' is no file; use imagenet, none, or the path"),
        ("-m seed=0,1 encoder.weights=imagnet", "'imagnet' is no file; use imagenet, none"),
        ("encoder=torchvision encoder.architecture=resnet18x", "the nearest are resnet18"),
        ("encoder=resnet18 encoder.train=99", "stages up to its map; use at most that number"),
    ],
    "machines": [
        ("trainer.accelerator=tpu", "torch finds no such device here; use cpu or auto"),
        ("trainer.devices=0", "trainer.devices must be a number of at least 1, -1 or auto"),
        ("trainer.precision=bf16-true", "trainer.precision must be auto, 32-true, bf16-mixed"),
        ("trainer.devices=x", "trainer.devices must be a number of at least 1, -1 or auto"),
        ("hydra/launcher=slrm -m", "did you mean slurm?"),
        ("hydra/launcher=slurm", "concerns sweeps; run\n  python run.py -m hydra/launcher=slurm"),
        ("-m seed=0,1 hydra/launcher=slurm", "needs SLURM, but sbatch is not on this machine"),
        (
            "-m seed=0 hydra/launcher=slurm hydra.launcher.gpu=1",
            "did you mean hydra.launcher.gpus?",
        ),
    ],
    "loggers": [
        ("logger=tensorbord", "did you mean tensorboard?"),
        ("logger=wandb logger.mode=onlin", "online, offline"),
        ("logger=tensorboard +logger.naem=x", "unknown option logger.naem: TensorBoardRunLogger"),
    ],
}
CASES = [
    pytest.param(line, remedy, id=f"{kind} {line}")
    for kind, mistakes in MISTAKES.items()
    for line, remedy in mistakes
]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that lines name."""
    folder = tmp_path_factory.mktemp("places")
    names = {name: folder / name for name in ("data", "lost", "empty", "bin")}
    for name in ("data", "lost"):
        FAKES["own_csv"].write(names[name])
    (names["lost"] / "images").rename(folder / "away")
    names["empty"].mkdir()
    names["bin"].mkdir()
    return names


def answer(
    line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> tuple[object, str]:
    """Exit status and output of a command, run here."""
    words = shlex.split(line)
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    try:
        main(words)
        status: object = 0
    except SystemExit as stop:
        status = stop.code
    if isinstance(status, str):  # what Python does with it
        print(status, file=sys.stderr)
        status = 1
    captured = capfd.readouterr()
    return status, captured.out + captured.err


@pytest.mark.parametrize(("line", "remedy"), CASES)
def test_a_mistake_is_one_or_two_lines_and_leaves_nothing(
    line: str,
    remedy: str,
    places: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(places["bin"]))  # no SLURM
    for name, path in places.items():
        line = line.replace(f"{{{name}}}", str(path))
    status, output = answer(line, monkeypatch, capfd)
    assert status == 1
    assert remedy in output
    assert output.startswith("error: ")
    assert output.count("\n") <= 2, output
    assert "use +" not in output, "as Hydra proposes, which would train the default encoder"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["encodr=resnet18", "encoder=vgg,resnet", "--help", "--version"])
def test_names_are_checked_and_help_is_given_without_torch(line: str, tmp_path: Path) -> None:
    code = (
        "import sys; from captionlab.runs.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.exit(str({'torch', 'pytorch_lightning'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, line],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() == ""


def test_developers_see_the_whole_trace(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from captionlab.errors import ConfigError

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ConfigError):
        answer("encodr=resnet18", monkeypatch, capfd)


def test_an_interval_is_left_to_a_sweeper_that_is_not_hydras_own(tmp_path: Path) -> None:
    (tmp_path / "hydra" / "sweeper").mkdir(parents=True)
    (tmp_path / "hydra" / "sweeper" / "mine.yaml").write_text("_target_: mine.Sweeper\n")
    check_overrides(
        ["hydra/sweeper=mine", "optimizer.lr=interval(1e-4,1e-2)"], config_loader(str(tmp_path))
    )
