"""The script of an array: one `srun COMMAND` per element."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

_HEAD = """\
#!/bin/bash
{directives}

export CAPTIONLAB_SWEEP=1 PYTHONUNBUFFERED=1{environment}
unset LOCAL_RANK RANK GROUP_RANK NODE_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT
unset PL_GLOBAL_SEED
"""

# The shell outlives the run: it asks for the requeue before the time is over, and a run that was
# stopped in the grace period of a preemption is left to SLURM, which else would call it failed.
_TAIL = """
requeue() {{
  if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {max_requeues} ]; then
    echo "the time is nearly over: requeued"
    scontrol requeue "$SLURM_JOB_ID"
  fi
}}
trap requeue USR1
trap : TERM

srun {step} "$@" &
step=$!
while wait "$step"; code=$?; kill -0 "$step" 2>/dev/null; do :; done
if [ "$code" -eq 143 ]; then sleep 300; fi  # stopped by SIGTERM
exit "$code"
"""


def array_script(
    directives: Mapping[str, object],
    options: Sequence[str],
    setup: Sequence[str],
    step: Sequence[str],
    commands: Mapping[int, Sequence[str]],
    environment: Mapping[str, str],
    max_requeues: int,
) -> str:
    """A batch script.

    Args:
        directives: long options of sbatch; those that are None are left out.
        options: further ones, as they are written.
        setup: lines of shell before the run.
        step: options of srun.
        commands: of the elements, by number.
        environment: variables of all elements.
        max_requeues: of one element.
    """
    given = {name: str(value) for name, value in directives.items() if value is not None}
    lines = [f"#SBATCH --{name}={shlex.quote(value)}" for name, value in given.items()]
    lines += [f"#SBATCH {option}" for option in options]
    exports = "".join(f" {name}={shlex.quote(value)}" for name, value in environment.items())
    cases = [f"{number}) set -- {shlex.join(command)} ;;" for number, command in commands.items()]
    return "\n".join(
        [
            _HEAD.format(directives="\n".join(lines), environment=exports),
            *setup,
            'case "$SLURM_ARRAY_TASK_ID" in',
            *cases,
            "esac",
            _TAIL.format(max_requeues=max_requeues, step=shlex.join(step)),
        ]
    )
