"""The documentation: its examples run as they stand, its links and commands lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir

from captionlab.cli import _parser, tune
from captionlab.cli.reference import commands_reference
from captionlab.config.checks import check
from captionlab.config.overrides import check_overrides
from captionlab.config.space import split_space
from captionlab.corpora import read_corpus
from captionlab.corpora.shapes import generate_shapes
from captionlab.metrics import registry
from captionlab.options import options_of
from captionlab.runs.launching.local import LocalLauncher
from captionlab.runs.launching.slurm import SlurmLauncher
from captionlab.runs.main import config_loader
from tests.support.configs import CONF, composed

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
EXTEND = sorted((DOCS / "extend").glob("[!R]*.md"))
FILE = r"^`([\w/]+\.(?:py|yaml))`[^\n]*:\n\n```\w+\n(.*?)```"  # a block that a line gives a name
OWN = ("encoder=small", "conditioning=add_inject", "objective=focal", "logger=jsonl")
OURS = ("python run.py ", "captionlab ")


def code(page: Path) -> list[str]:
    """The Python of a page, less the files of a package."""
    text = re.sub(FILE, "", page.read_text(), flags=re.S | re.M)
    return re.findall(r"```python\n(.*?)```", text, re.S)


def write_package(folder: Path) -> Path:
    """All files that the pages of docs/extend name."""
    (folder / "own_parts").mkdir(parents=True)
    (folder / "own_parts" / "__init__.py").touch()
    for page in EXTEND:
        for name, text in re.findall(FILE, page.read_text(), re.S | re.M):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return folder


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of docs/extend, importable; what it registers is forgotten afterwards."""
    folder = write_package(tmp_path / "package")
    registry.metrics()
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_parts"]:
        monkeypatch.delitem(sys.modules, name)
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if code(page)], ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(
    page: Path, own_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    names: dict[str, Any] = {}
    for example in code(page):
        exec(example, names)


def commands(page: Path) -> list[list[str]]:
    """The words of each of our commands in the blocks of a page."""
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^(?: {4}|\t)(.+)$|^```\w*\n(.*?)^```", text, re.S | re.M)
    lines = [line.strip() for pair in blocks for part in pair for line in part.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [shlex.split(part, comments=True) for part in parts if part.startswith(OURS)]


def links(page: Path) -> list[str]:
    """Where the links and pictures of a page lead, less links to other sites."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)
    found = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", text)
    return [link for picture, link in found if picture or not link.startswith("http")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    for link in links(page):
        assert (page.parent / link.partition("#")[0]).exists(), link


def test_every_page_is_in_the_navigation_and_stays_inside_of_the_site() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = re.findall(r"[\w/-]+\.md", yaml.safe_dump(site["nav"]))
    pages = [page for page in PAGES if page.is_relative_to(DOCS)]
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in pages)
    for page in pages:
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            assert target.is_relative_to(DOCS), f"{page.name}: {link} is not part of the site"


LAUNCHER_OPTIONS = {*options_of(SlurmLauncher), *options_of(LocalLauncher)}
TYPED = [(page, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize(
    ("page", "words"), TYPED, ids=[f"{page.stem}: {' '.join(words)}" for page, words in TYPED]
)
def test_every_command_of_a_page_is_understood(page: Path, words: list[str]) -> None:
    if words[1:2] == ["tune"]:
        options = tune._parser().parse_intermixed_args(words[2:])
        loader = config_loader(None)
        check_overrides(options.overrides, loader, searches=True)
        assert split_space(options.overrides, loader)[0], "a space"
        return
    overrides = words[2:] if words[0] == "python" or words[1:2] == ["train"] else None
    if overrides is None:
        _parser().parse_args(words[1:])
        return
    flags = {"-m", "--config-dir", "--help", "--cfg", "..."}
    if flags & {"--config-dir", "--help", "--cfg"} & set(overrides) or "OVERRIDES" in overrides:
        return  # a package of one's own, or Hydra's own flags
    for word in (word for word in overrides if word not in flags):
        name, _, value = word.partition("=")
        if (CONF / name).is_dir():
            for option in value.split(","):
                assert (CONF / name / f"{option}.yaml").exists(), word
    for word in overrides:
        if word.startswith("hydra.launcher."):
            assert word.removeprefix("hydra.launcher.").partition("=")[0] in LAUNCHER_OPTIONS, word
    single = [re.sub(r"=([^,\[]*),.*", r"=\1", word) for word in overrides if word not in flags]
    composed(*(word for word in single if not word.startswith(("hydra.", "hydra/"))))


def test_every_page_of_an_extension_has_an_example_and_is_listed() -> None:
    index = (DOCS / "extend" / "README.md").read_text()
    for page in EXTEND:
        assert code(page), page
        assert f"]({page.name})" in index, page
    assert len(EXTEND) == 6


def test_the_options_of_a_package_are_checked_as_those_that_ship(own_package: Path) -> None:
    path = f"hydra.searchpath=[file://{own_package / 'conf'}]"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[path, *OWN])
        out_of_range = compose("config", overrides=[path, *OWN, "objective.focus=-1"])
    assert check(config)["conditioning"]["image_scale"] == 1.0
    with pytest.raises(Exception, match=r"objective\.focus must be .*at least 0.*found -1"):
        check(out_of_range)


@pytest.mark.slow
def test_a_run_takes_every_part_from_a_package_outside_the_repository(tmp_path: Path) -> None:
    package = write_package(tmp_path / "package")
    generate_shapes(tmp_path / "drawings", 24, 8, 8, 64, seed=0)
    for split, images in read_corpus(tmp_path / "drawings").splits.items():
        (tmp_path / "data" / split).mkdir(parents=True)
        for image in images:
            photo = image.path.rename(tmp_path / "data" / split / image.path.name)
            photo.with_suffix(".txt").write_text("\n".join(image.captions))
    command = [sys.executable, "-m", "captionlab.cli", "train", "--config-dir", "package/conf"]
    command += ["data=text_beside_photos", "data.root=data", "data.num_workers=0", *OWN]
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, "trainer.max_epochs=1", "trainer.log_every_n_steps=1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "runs" / "text_beside_photos").glob("small-lstm-add_inject-*")
    assert "word_precision" in json.loads((folder / "result.json").read_text())["scores"]
    logged = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
    assert any("val/word_precision" in values for values in logged)
    assert any("mean_weight" in key for values in logged for key in values)


def test_the_reference_of_commands_is_what_the_parsers_say() -> None:
    assert (DOCS / "commands.md").read_text(encoding="utf-8") == commands_reference()
