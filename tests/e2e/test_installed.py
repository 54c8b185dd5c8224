"""An ordinary installation, in an empty folder, with a part from somebody else's package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.e2e.test_commands import ROOT, SMALL, read, run_folders

PART = """
from captionlab.decoders import InitInjectConditioning


class OwnConditioning(InitInjectConditioning):
    pass
"""
OPTION = """
_target_: own_package.OwnConditioning
name: own
dropout: 0.0
"""
BUILD = "from setuptools import build_meta; print(build_meta.build_{kind}({folder!r}))"


def build(kind: str, source: Path, folder: Path) -> Path:
    """An `sdist` or a `wheel`, by setuptools in this environment: no network."""
    code = BUILD.format(kind=kind, folder=str(folder))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed packages: captionlab, by way of an sdist and a wheel, and a user's own package."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    with tarfile.open(build("sdist", source, folder)) as sdist:
        sdist.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.glob("captionlab-*") if path.is_dir())
    wheel = build("wheel", unpacked, folder)
    site = folder / "site"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([sys.executable, *install, str(wheel)], check=True)

    (site / "own_package").mkdir()
    (site / "own_package" / "__init__.py").write_text(PART)
    option = site / "own_package" / "conf" / "conditioning" / "own.yaml"
    option.parent.mkdir(parents=True)
    option.write_text(OPTION)
    return site


def captionlab(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(site / "bin" / "captionlab"), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_options_are_installed(site: Path, tmp_path: Path) -> None:
    shipped = {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")}
    installed = site / "captionlab" / "conf"
    assert {path.relative_to(installed) for path in installed.rglob("*.yaml")} == shipped
    flags = ["--config-dir", str(site / "own_package" / "conf")]
    shown = captionlab(site, tmp_path, "train", *flags, "conditioning=own", "--cfg", "job")
    assert shown.returncode == 0, shown.stderr
    assert "_target_: own_package.OwnConditioning" in shown.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_sweep_over_shipped_and_own_options_runs_in_an_empty_folder(
    site: Path, tmp_path: Path
) -> None:
    flags = ["-m", "--config-dir", str(site / "own_package" / "conf")]
    options = ["encoder=resnet18", "conditioning=own,init_inject", *SMALL]
    done = captionlab(site, tmp_path, "train", *flags, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    folders = run_folders(tmp_path)
    assert sorted(folder.name.split("-")[2] for folder in folders) == ["init_inject", "own"]
    assert all(read(folder / "status.json")["state"] == "complete" for folder in folders)
    command = read(folders[0] / "manifest.json")["command"]
    assert command[:2] == [str(site / "bin" / "captionlab"), "train"]  # type: ignore[index]
    own = next(folder for folder in folders if "-own-" in folder.name)
    photo = next((tmp_path / "data" / "shapes").glob("*/images/*.jpg"))
    captioned = captionlab(site, tmp_path, "caption", str(own), str(photo))
    assert captioned.returncode == 0, captioned.stderr
    assert captioned.stdout.startswith(f"{photo}\t")


@pytest.mark.slow
def test_two_processes_train_one_run(site: Path, tmp_path: Path) -> None:
    flags = ["--config-dir", str(site / "own_package" / "conf")]
    options = ["encoder=resnet18", "trainer.devices=2", "+trainer.strategy=ddp", *SMALL]
    done = captionlab(site, tmp_path, "train", "conditioning=own", *flags, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = run_folders(tmp_path)
    assert len((folder / "predictions.jsonl").read_text().splitlines()) == 12
