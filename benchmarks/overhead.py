"""What the suite itself takes, beyond importing torch: to answer from disk, and to begin training.

    python benchmarks/overhead.py
    python benchmarks/overhead.py --runs 20 --repeats 5

Trains one small run on drawings, which stores its features, makes up finished runs like it, and
starts `python run.py` as a user does. Prints seconds less those of `import torch` in a process of
its own, the least of all repeats: by the clock, and of the processor, which other processes on the
machine disturb less. At the end, which of the slow libraries each of the paths imports.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hydra.types import RunMode

from captionlab.config.checks import check
from captionlab.config.overrides import CONFIG_NAME
from captionlab.evaluation.result import Result, read_predictions
from captionlab.run_files import RunFiles, find_runs
from captionlab.runs.folder import RunFolder
from captionlab.runs.identity import identity
from captionlab.runs.main import config_loader

_RUN = [sys.executable, str(Path(__file__).parents[1] / "run.py")]
_SMALL = ["encoder=resnet18", "data.num_train=64", "data.num_val=16", "data.num_test=100"]
_LIBRARIES = ("torch", "torchvision", "pytorch_lightning", "torch._dynamo", "wandb")
_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Seconds:
    """How long a process took: by the clock, and of the processor."""

    wall: float
    processor: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="of the sweep")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [*_SMALL, f"runs_dir={folder}/runs", f"cache_dir={folder}/data"]
        short = [*words, "trainer.max_epochs=1"]
        subprocess.run([*_RUN, *short], check=True, capture_output=True)
        make_up(folder / "runs", short, options.runs)
        seeds = f"seed=range({options.runs})"

        def first_step(number: int) -> Seconds:
            fresh = [*words, f"name=fresh-{number}", "trainer.checkpoint_every_steps=1"]
            return measured([*_RUN, *fresh], folder / "runs" / f"fresh-{number}")

        cases: dict[str, Callable[[int], Seconds]] = {
            "one run loaded from disk": lambda _: measured([*_RUN, *short]),
            f"a sweep of {options.runs} loaded from disk": lambda _: measured(
                [*_RUN, "-m", *short, seeds]
            ),
            "a fresh run, features stored, to its first step": first_step,
        }
        torch = [measured([sys.executable, "-c", "import torch"]) for _ in range(options.repeats)]
        base = least(torch)
        print(f"import torch: {base.wall:.1f} s, processor {base.processor:.1f} s; beyond it:")
        for title, measure in cases.items():
            took = least([measure(number) for number in range(options.repeats)])
            wall, processor = took.wall - base.wall, took.processor - base.processor
            print(f"{title}: {wall:.1f} s, processor {processor:.1f} s", flush=True)
        print(f"answering imports {imported(short)}")
        print(f"the engine imports {imported([])}")


def make_up(folder: Path, words: list[str], num_runs: int) -> None:
    """Finished runs with other seeds and the result of the one that is there."""
    (source,) = (RunFiles(path) for path in find_runs(folder / "shapes"))
    result, predictions = Result.read(source.result_path), read_predictions(source.predictions_path)
    loader = config_loader(None)
    for seed in range(num_runs):
        config = loader.load_configuration(CONFIG_NAME, [*words, f"seed={seed}"], RunMode.RUN)
        values, run = check(config), RunFolder(Path(config.hydra.run.dir))
        if run.path != source.path:
            run.path.mkdir()
            run.claim(values, identity(values))
            run.write_result(result, predictions)
            run.set_state("complete")


def measured(command: list[str], until: Path | None = None) -> Seconds:
    """Run a command, to its end or until a run in a folder has its first checkpoint."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if until is not None:
        while not list(until.glob("*/checkpoints/last.ckpt")):
            if process.poll() is not None:
                raise RuntimeError(f"{command} ended before its first step")
            time.sleep(_POLL_SECONDS)
        process.terminate()
    wall = time.perf_counter() - began
    _, status, usage = os.wait4(process.pid, 0)
    if until is None:
        wall = time.perf_counter() - began
        if status:
            raise RuntimeError(f"{command} failed")
    return Seconds(wall, usage.ru_utime + usage.ru_stime)


def least(measurements: list[Seconds]) -> Seconds:
    """The least of each."""
    return Seconds(min(m.wall for m in measurements), min(m.processor for m in measurements))


def imported(words: list[str]) -> str:
    """Those of the slow libraries that a run, or the engine without one, imports."""
    code = "from captionlab.runs.main import main; main(sys.argv[1:])"
    code = f"import sys; {code if words else 'import captionlab.runs.engine'}"
    code += f"; print(', '.join(m for m in {_LIBRARIES} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


if __name__ == "__main__":
    main()
