"""The report on a checked data set: tables for the terminal, files and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

from rich.console import Console

from captionlab.corpora.check import CorpusCheck, Photo
from captionlab.files import write_atomically
from captionlab.reports.figure import new_figure, to_png, to_svg
from captionlab.reports.table import Column, Row, Table, escape, print_note

_PERCENTILES = {
    0: "min",
    5: "5 %",
    25: "25 %",
    50: "50 %",
    75: "75 %",
    95: "95 %",
    99: "99 %",
    100: "max",
}
_SHOWN_CAPTIONS = 5
_SHOWN_ROWS = 20  # of what may be thousands; check.json has all
_SHOWN_COLUMNS = 6  # of a contact sheet
_BLUE, _RED, _INK = "#2a6f97", "#d1495b", "#222222"


def print_check(check: CorpusCheck, console: Console) -> None:
    """Print all tables, notes, and the problems last."""
    for table in _tables(check):
        table.print(console)
    for note in check.notes:
        print_note(f"note: {note}", console, style=None)
    for problem in check.problems:
        print_note(f"problem: {problem}", console)
    if not check.problems:
        console.print(_verdict(check))


def write_check(check: CorpusCheck, folder: Path) -> list[Path]:
    """Write check.md, check.json and the pictures; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = {"lengths": _draw_lengths(check), "vocabulary": _draw_vocabulary(check)}
    pictures = {f"{name}.png": to_png(figure) for name, figure in plots.items()}
    if check.duplicates:
        pictures["duplicates.png"] = to_png(_draw_duplicates(check.duplicates))
    files: dict[str, bytes] = {
        "check.md": _markdown(check, list(pictures)).encode(),
        "check.json": (_json(check) + "\n").encode(),
        **pictures,
        **{f"{name}.svg": to_svg(figure) for name, figure in plots.items()},
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def _tables(check: CorpusCheck) -> Iterator[Table]:
    yield _numbers(
        check.name,
        ["", *check.num_images, "all"],
        [
            ["images", *_with_sum(check.num_images)],
            ["captions", *_with_sum(check.num_captions)],
        ],
    )
    yield _numbers(
        "Captions per image",
        ["captions", *map(str, check.captions_per_image)],
        [["images", *(f"{number:,}" for number in check.captions_per_image.values())]],
    )
    lengths = check.lengths
    yield _numbers(
        "Words per caption",
        ["", "mean", *_PERCENTILES.values()],
        [["words", f"{_mean(lengths):.1f}", *(str(percentile(lengths, p)) for p in _PERCENTILES)]],
    )
    yield _numbers(
        "Vocabulary of the training captions",
        ["words seen at least", *(f"{v.min_count}x" for v in check.vocabulary)],
        [
            ["entries, 4 special ones included", *(f"{v.size:,}" for v in check.vocabulary)],
            [
                "running words of test captions covered",
                *(f"{100 * v.test_coverage:.2f} %" for v in check.vocabulary),
            ],
        ],
    )
    yield from _problem_tables(check)
    if check.feature_bytes:
        yield _numbers(
            "Encoded images",
            ["encoder", "GB on disk"],
            [[name, f"{size / 1e9:.2f}"] for name, size in check.feature_bytes.items()],
        )


def _problem_tables(check: CorpusCheck) -> Iterator[Table]:
    if check.odd_captions:
        yield _texts(
            "Odd captions",
            ["", "captions", f"the first {_SHOWN_CAPTIONS}"],
            [
                [kind, str(len(captions)), "\n".join(map(_shown, captions[:_SHOWN_CAPTIONS]))]
                for kind, captions in check.odd_captions.items()
            ],
        )
    if check.unreadable:
        yield _texts(
            f"{len(check.unreadable)} unreadable photos{_the_first(check.unreadable)}",
            [""],
            [[reason] for reason in check.unreadable[:_SHOWN_ROWS]],
        )
    if check.duplicates:
        yield _texts(
            f"{len(check.duplicates)} photos more than once{_the_first(check.duplicates)}",
            ["times", "images"],
            [
                [str(len(group)), "\n".join(f"{p.split} {p.image_id}" for p in group[:_SHOWN_ROWS])]
                for group in check.duplicates[:_SHOWN_ROWS]
            ],
        )


def _numbers(title: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Labels and numbers; the last columns are dropped first."""
    columns = [Column(text, priority=-i) for i, text in enumerate(titles)]
    return Table(title, [Column(titles[0], is_text=True), *columns[1:]], list(map(Row, rows)))


def _texts(title: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    columns = [Column(text, is_text=True) for text in titles]
    return Table(title, columns, list(map(Row, rows)))


def _the_first(things: Sequence[Any]) -> str:
    return f", the first {_SHOWN_ROWS}" if len(things) > _SHOWN_ROWS else ""


def percentile(counts: Mapping[int, int], share: float) -> int:
    """The smallest value that at least `share` % of all are not above, of values with counts."""
    wanted = share / 100 * sum(counts.values())
    cumulated = zip(counts, accumulate(counts.values()), strict=True)
    return next((value for value, up_to in cumulated if up_to >= wanted), 0)


def _mean(counts: Mapping[int, int]) -> float:
    return sum(value * number for value, number in counts.items()) / sum(counts.values())


def _with_sum(numbers: Mapping[Any, int]) -> list[str]:
    return [f"{number:,}" for number in (*numbers.values(), sum(numbers.values()))]


def _shown(odd: tuple[str, str]) -> str:
    image, caption = odd
    return f"{image}: {caption[:80]!r}"


def _verdict(check: CorpusCheck) -> str:
    if check.photos_decoded:
        return "No problem was found; all photos were decoded."
    return "No problem was found in the captions; the photos were not looked at."


def _markdown(check: CorpusCheck, pictures: Sequence[str]) -> str:
    parts = [f"# {check.name}"]
    parts += [f"**Problem:** {escape(problem)}" for problem in check.problems] or [_verdict(check)]
    parts += [f"Note: {escape(note)}" for note in check.notes]
    parts += [f"## {table.title}\n\n{table.markdown()}" for table in _tables(check)]
    parts += [f"![{name.removesuffix('.png')}]({name})" for name in pictures]
    return "\n\n".join(parts) + "\n"


def _json(check: CorpusCheck) -> str:
    values = asdict(check) | {"problems": check.problems}
    return json.dumps(values, indent=2, ensure_ascii=False, default=str)


def _draw_lengths(check: CorpusCheck) -> Any:
    figure = new_figure(7, 3)
    axes = figure.subplots()
    last = max(percentile(check.lengths, 99.9), 1)
    shown = {words: number for words, number in check.lengths.items() if words <= last}
    axes.bar(list(shown), list(shown.values()), width=0.85, color=_BLUE)
    middle = percentile(check.lengths, 50)
    axes.axvline(middle, color=_INK, lw=1.2, ls="--")
    axes.annotate(
        f"half have {middle} or fewer",
        (middle, 1),
        (5, -10),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        fontsize=9,
    )
    longer = sum(check.lengths.values()) - sum(shown.values())
    more = f" ({longer} longer, up to {max(check.lengths)}, not shown)" if longer else ""
    axes.set_xlabel(f"words per caption{more}")
    axes.set_ylabel("captions")
    _plain(axes)
    return figure


def _draw_vocabulary(check: CorpusCheck) -> Any:
    figure = new_figure(7, 3)
    axes = figure.subplots()
    sizes = [v.size for v in check.vocabulary]
    shares = [100 * v.test_coverage for v in check.vocabulary]
    axes.plot(sizes, shares, "o-", color=_BLUE, lw=1.5)
    named = dict(zip(sizes, check.vocabulary, strict=True))  # thresholds may keep the same words
    for vocabulary in named.values():
        axes.annotate(
            f"seen {vocabulary.min_count}x or more",
            (vocabulary.size, 100 * vocabulary.test_coverage),
            (6, -12),
            textcoords="offset points",
            fontsize=9,
        )
    axes.set_xlabel("entries of the vocabulary")
    axes.set_ylabel("test words covered, %")
    axes.margins(x=0.22, y=0.25)
    _plain(axes)
    return figure


def _draw_duplicates(groups: Sequence[Sequence[Photo]]) -> Any:
    """A row per group: each photo under the split and id that it goes by."""
    from captionlab.images.photos import read_image

    shown = [group[:_SHOWN_COLUMNS] for group in groups[:_SHOWN_ROWS]]
    columns = max(map(len, shown))
    figure = new_figure(max(2.2 * columns, 5), 0.5 + 2.2 * len(shown))
    title = f"{len(groups)} photos more than once{_the_first(groups)}"
    figure.suptitle(title, fontsize=10)
    grid = figure.subplots(len(shown), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, group in zip(grid, shown, strict=True):
        across = len({photo.split for photo in group}) > 1
        for axes, photo in zip(row, group, strict=False):
            image = read_image(photo.path)
            image.thumbnail((300, 300))
            axes.imshow(image)
            name = f"{photo.split}\n{photo.image_id[-28:]}"
            axes.set_title(name, fontsize=7, color=_RED if across else _INK)
    return figure


def _plain(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
