"""A finished run is loaded from disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hydra.types import RunMode

from captionlab.config.checks import check
from captionlab.config.overrides import CONFIG_NAME
from captionlab.evaluation.result import Prediction, Result
from captionlab.runs.folder import RunFolder
from captionlab.runs.identity import identity
from captionlab.runs.main import config_loader

CODE = """
import sys
from captionlab.runs.main import main
main()
print("imported:", {"pytorch_lightning", "torchvision", "torch._dynamo"} & set(sys.modules))
"""


def test_a_run_or_a_sweep_answered_from_disk_imports_no_lightning(tmp_path: Path) -> None:
    words = [f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/data", "encoder=resnet18"]
    config = config_loader(None).load_configuration(CONFIG_NAME, words, RunMode.RUN)
    values, folder = check(config), RunFolder(Path(config.hydra.run.dir))
    folder.set_state("complete")
    folder.claim(values, identity(values))
    result = Result({"cider_d": 0.25}, {}, {}, {}, {}, {}, [], 1)
    folder.write_result(result, [Prediction("a", "a dog", {"cider_d": 0.25}, {"n": [1.0]})])
    for mode in ([], ["-m"]):
        command = [sys.executable, "-c", CODE, *mode, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "loaded from disk" in done.stdout
        assert done.stdout.endswith("imported: set()\n")
