"""What a person sees of work that takes long, and what a log gets."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from captionlab import progress
from captionlab.progress import LogDisplay, StdoutHandler, bar, duration, shown_on
from captionlab.progress.terminal import Header, TerminalDisplay, is_watched, shown_on_terminal
from captionlab.runs.place import SweepPlace


class Clock:
    """Time that passes when told to."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Screen:
    """A terminal of 70 columns whose last drawing is kept."""

    def __init__(self, header: Header | None = None) -> None:
        self.clock = Clock()
        self.written = io.StringIO()
        console = Console(file=self.written, width=70, force_terminal=True, color_system=None)
        self.display = TerminalDisplay(console, header, self.clock)

    def lines(self) -> list[str]:
        """What is drawn now, spaces and bars shortened."""
        console = Console(width=70)
        with console.capture() as capture:
            console.print(self.display._rows.get_renderable())
        text = capture.get().replace("━", "").replace("╸", "").replace("╺", "")
        return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_a_bar_says_what_how_far_and_how_long() -> None:
    screen = Screen()
    with shown_on(screen.display), bar("encoding images", 200, "images", done=100) as shown:
        assert screen.lines() == ["encoding images 100 of 200 images"]
        screen.clock.seconds += 10
        shown.advance(20)
        assert screen.lines() == ["encoding images 120 of 200 images 40 s left"], "not 100 done"
        with bar("fetching weights", None, "B") as other:
            other.restart(1_000_000, 17_400_000)
            assert screen.lines()[1] == "fetching weights 1.0 of 17.4 MB"
    assert screen.lines() == []


def test_nothing_of_a_bar_stays_on_the_screen() -> None:
    screen = Screen()
    with shown_on(screen.display), bar("encoding images", 2, "images") as shown:
        shown.advance(2)
    assert screen.written.getvalue().count("\x1b[?25l") == 1, "the cursor is hidden once"
    assert screen.written.getvalue().rindex("\x1b[?25h") > screen.written.getvalue().rindex(
        "encoding"
    )
    length = len(screen.written.getvalue())
    screen.display.begin("late", 1, "images").advance()
    assert len(screen.written.getvalue()) == length


def test_it_is_drawn_five_times_a_second_at_most() -> None:
    screen = Screen()
    shown = screen.display.begin("encoding images", 1000, "images")
    for _ in range(1000):
        screen.clock.seconds += 0.001
        shown.advance()
    assert 5 <= screen.written.getvalue().count("encoding images") <= 7


def test_a_run_of_a_sweep_says_its_place_and_what_is_left_of_both() -> None:
    screen = Screen(SweepPlace(2, 4, num_waiting=2, mean_seconds=60.0).header)
    training = screen.display.begin("epoch 1/2", 10, "steps", in_log=False)
    assert screen.lines()[0] == "run 2 of 4, about 3 min left for all"
    screen.clock.seconds += 20
    training.advance(5)
    training.describe("epoch 2/2")
    screen.display.show(["best so far  CIDEr-D 85.0 (epoch 1)", "sample       [red] dog"])
    assert screen.lines() == [
        "run 2 of 4, about 2 min left for all",
        "epoch 2/2 5 of 10 steps 20 s left",
        "best so far CIDEr-D 85.0 (epoch 1)",
        "sample [red] dog",
    ]


def test_the_first_run_of_a_sweep_is_the_measure_of_the_others() -> None:
    place = SweepPlace(1, 4, num_waiting=3, mean_seconds=0.0)
    assert place.header(10.0, None) == "run 1 of 4"
    assert place.header(30.0, 10.0) == "run 1 of 4, about 2 min left for all"


def test_a_place_reaches_the_process_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SweepPlace.of_this_process() is None
    place = SweepPlace(3, 4, 1, 61.5)
    monkeypatch.setenv("CAPTIONLAB_SWEEP_PLACE", str(place))
    assert SweepPlace.of_this_process() == place


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5900, "98 min"), (6000, "1.7 h")],
)
def test_durations_are_rounded(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_gets_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    caplog.set_level(logging.INFO)
    with bar("encoding images", 300, "images") as shown:
        for _ in range(300):
            clock.seconds += 0.5
            shown.advance()
    assert caplog.messages == [
        "encoding images: 120 of 300 images",
        "encoding images: 240 of 300 images",
    ]
    training = LogDisplay().begin("epoch 1/2", 300, "steps", in_log=False)
    clock.seconds += 100
    training.advance()
    assert len(caplog.messages) == 2, "a training logs its epochs itself"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def logged() -> Iterator[Any]:
    handler = StdoutHandler()
    logger = logging.getLogger("test_display")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # to what another test's run may have added to the root logger
    yield lambda: logger.info("epoch 1/2  sample", extra={"brief": "epoch 1/2"})
    logger.propagate = True
    logger.removeHandler(handler)


def test_a_log_line_goes_where_output_goes_now(
    monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    for output, text in (
        (io.StringIO(), "epoch 1/2  sample\n"),
        (Terminal(), "epoch 1/2\n"),  # the display has the sample
    ):
        monkeypatch.setattr(sys, "stdout", output)
        logged()
        assert output.getvalue() == text


def test_nobody_watches_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    assert not is_watched()
    with shown_on_terminal(), bar("encoding images", 2, "images") as shown:
        shown.advance()
    assert capfd.readouterr() == ("", "")
