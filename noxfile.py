"""Checks: `nox -s tests lint types docs minimum slow browser slurm`."""

import re
import shutil
import tomllib
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests"]


@nox.session
def tests(session: nox.Session) -> None:
    """The default suite; nothing in it reaches the network."""
    session.install("-e", ".[test]")
    _run_default_suite(session)


@nox.session
def slow(session: nox.Session) -> None:
    """What takes minutes."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "slow", *session.posargs, env={"WANDB_MODE": "offline"})


@nox.session
def browser(session: nox.Session) -> None:
    """The comparison page in a real browser, Debian's `chromium`."""
    chromium = shutil.which("chromium")
    if chromium is None:
        session.error("there is no chromium; install it, for example by apt-get install chromium.")
    session.install("-e", ".[test]", "playwright==1.*")  # its own browsers are not downloaded
    session.run("pytest", "tests/browser", *session.posargs, env={"CHROMIUM": chromium})


@nox.session
def slurm(session: nox.Session) -> None:
    """Sweeps on a real SLURM of one node; its packages are Debian's."""
    if shutil.which("slurmctld") is None:
        session.error("there is no SLURM; install slurmctld, slurmd, slurm-client and munge.")
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "slurm", "tests/slurm", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format."""
    session.install("ruff==0.17.*")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types of src, strictly."""
    session.install("-e", ".[test]", "mypy==2.4.*", "types-PyYAML")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The site, into `site/`; a dead link or a page outside the navigation fails."""
    session.install("-e", ".[docs]")
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    session.run("mkdocs", "build", "--strict", *session.posargs, env=quiet)


@nox.session
def minimum(session: nox.Session) -> None:
    """The default suite with every dependency at its floor."""
    session.install("-e", ".[test]", *_floors())
    _run_default_suite(session)


def _run_default_suite(session: nox.Session) -> None:
    # Two torch processes on the same cores wait for each other: one thread each.
    environment = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    # Slow tests lie beside each other: the one that has fewer of them takes some of the other's.
    workers = ("-n", "2", "--dist=worksteal")
    session.run(
        "pytest", "-m", "not slow and not slurm", *workers, *session.posargs, env=environment
    )


def _floors() -> list[str]:
    """`name==floor` of every dependency that pyproject.toml names."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    named = [requirement for group in groups for requirement in group]
    floors = (re.match(r"([\w-]+)>=([\d.]+)", requirement) for requirement in named)
    return [f"{floor[1]}=={floor[2]}" for floor in floors if floor]
