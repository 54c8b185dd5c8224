"""The page in a real browser: what a reader sees, and does with mouse and keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captionlab.reports import Comparison
from captionlab.reports.page import write_attention
from captionlab.run_files import RunFiles
from tests.browser.conftest import BROWSER
from tests.support.results import NUM_IMAGES, Results

playwright = pytest.importorskip("playwright.sync_api", reason="run by nox -s browser")
pytestmark = pytest.mark.skipif(not BROWSER, reason="there is no chromium")

LOOKS = "looks twice"
HOSTILE = [
    "<script>document.title = 'taken'</script>",
    "<img src=x onerror=alert(1)> &lt;b&gt; </script><!--",
    "[bold]a dog[/bold] [/x]",
    "a \x1b[31mred\x1b[0m dog",
    "كلب يجري في الماء",
    "\u202eetiruove ruoy si sihT",
    "a dog 🐕 and a family 👩‍👩‍👧",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a report on two seeds of two systems, a third one and a failed run."""
    results = Results(tmp_path_factory.mktemp("runs"))
    images = [image.image_id for image in results.corpus.splits["test"]]
    hostile = dict(zip(images, HOSTILE, strict=False))
    results.corpus.splits["test"][-1].path.unlink()
    hostile[images[8]] = LOOKS
    runs = [results.run("vgg", "lstm", seed, 0.9 - 0.1 * seed) for seed in (0, 1)]
    runs += [results.run("resnet", "lstm", seed, 0.5 + 0.1 * seed) for seed in (0, 1)]
    runs.append(results.run("<b>x</b>", "gru", 0, 0.7, hostile))
    attention = [(images[8], np.array([[1, 0, 0, 0], [0, 0.1, 0.1, 0.8]]))]
    write_attention(RunFiles(runs[4]).attention_path, {images[8]: LOOKS}, attention, (2, 2), 0.5)
    runs.append(results.failed("broken", "DataError: <i>no photo</i>"))
    Comparison.read(runs).write(results.folder / "report")
    return results.folder


@pytest.fixture(params=[(1600, "light"), (400, "dark")], ids=["wide-light", "narrow-dark"])
def page(folder: Path, browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, opened; afterwards: no message on the console, no error, no request."""
    width, scheme = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(5000)
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((folder / "report" / "index.html").as_uri())
    yield page
    page.close()
    assert messages == []
    outside = [url for url in requests if not url.startswith(("file:", "data:"))]
    assert outside == []
    assert sum(url.startswith("file:") for url in requests) == 1


def column(page: Any, title: str) -> list[str]:
    """Texts of a column of the table of scores, without the row of people."""
    titles = page.locator("#table thead th").all_inner_texts()
    plain = [text.replace("\u2011", "-").split("\n")[0].rstrip(" ↑↓") for text in titles]
    rows = page.locator("#table tbody tr:not(.people)").all()
    place = plain.index(title)
    return [row.locator("td").nth(place).inner_text() for row in rows]


def gallery(page: Any) -> Any:
    """The cards, once they are there."""
    page.locator("#gallery").scroll_into_view_if_needed()
    page.locator(".card").first.wait_for()
    return page.locator(".card")


def test_the_answer_comes_first(page: Any) -> None:
    answer = page.inner_text("#answer")
    assert answer.startswith("vgg lstm has the best CIDEr-D of 85.0 [")
    assert "People: 150.0" in answer
    assert column(page, "CIDEr-D") == ["85.0 ±7.1", "70.0", "55.0 ±7.1"]
    assert "150.0" in page.inner_text("#table tr.people")
    assert "images" in column(page, "against best")[1]


def test_nothing_overflows_the_window(page: Any) -> None:
    gallery(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_title_sorts_by_mouse_and_keyboard(page: Any) -> None:
    page.click("#table button[data-key='cider_d']")
    assert column(page, "CIDEr-D")[0] == "85.0 ±7.1"
    page.keyboard.press("Enter")
    assert column(page, "CIDEr-D")[0] == "55.0 ±7.1"
    assert page.get_attribute("#table th[aria-sort]", "aria-sort") == "ascending"
    page.click("#table button[data-key='encoder.name']")
    assert column(page, "encoder")[0] == "<b>x</b>"


def test_the_filter_is_for_table_plots_and_gallery(page: Any) -> None:
    page.fill("#filter", "resnet")
    assert column(page, "encoder") == ["resnet"]
    assert page.locator("#curve-plot g.run").count() == 2
    assert page.locator("#cost-plot .point").count() == 1
    cards = gallery(page)
    assert cards.first.locator(".ranks").all_text_contents() == ["3"]
    page.fill("#filter", "no such system")
    assert column(page, "encoder") == []
    assert "No run" in page.inner_text("#curve-plot")


def test_columns_are_hidden_and_shown(page: Any) -> None:
    page.uncheck("#columns input[data-kind='cost']")
    assert "train" not in page.inner_text("#table thead")
    page.check("#columns input[data-kind='cost']")
    assert "train" in page.inner_text("#table thead")


def test_a_baseline_is_chosen(page: Any) -> None:
    page.select_option("#baseline", label="3 resnet lstm")
    against = column(page, "against baseline")
    assert against[2] == "baseline"
    assert "▲ +30.3" in against[0]
    page.locator("#table tbody tr").first.locator("td.text span").last.hover()
    assert "p over seeds" in page.inner_text("#tip")


def test_what_differs_between_two_systems_is_a_diff(page: Any) -> None:
    page.select_option("#left", label="1 vgg lstm")
    page.select_option("#right", label="2 <b>x</b> gru")
    rows = page.locator("#diff tr").all_inner_texts()
    assert [row.split("\t") for row in rows] == [
        ["encoder.name", "vgg", "<b>x</b>"],
        ["decoder.name", "lstm", "gru"],
    ]


def test_the_heat_map_is_of_any_two_settings(page: Any) -> None:
    cells = page.locator("#heat-map td").all_inner_texts()
    assert cells == ["70.0", "-", "-", "55.0", "-", "85.0"]
    page.select_option("#heat-rows", label="decoder")
    page.select_option("#heat-columns", label="all")
    assert page.locator("#heat-map td").all_inner_texts() == ["70.0", "70.0 (2)"]


def test_a_curve_stands_out_under_the_pointer_and_the_focus(page: Any) -> None:
    page.locator("#curve-plot .key button").first.focus()
    assert page.locator("#curve-plot g.run.dim").count() == 3
    page.locator("#curve-plot .key button").first.blur()
    assert page.locator("#curve-plot g.run.dim").count() == 0
    page.select_option("#curve", "val/loss")
    assert "val/loss" in page.locator("#curve-plot svg").first.inner_html()


def test_the_front_of_quality_against_cost(page: Any) -> None:
    assert "on the front, where nothing is as good for less: 2 " in page.inner_text("#cost-plot")
    page.locator("#cost-plot .point").first.focus()
    assert "CIDEr-D 85.0, train s 80" in page.inner_text("#tip")


def test_photos_are_decoded_when_they_come_into_view(page: Any) -> None:
    assert page.locator(".card").count() == 0
    cards = gallery(page)
    photo = cards.first.locator("img")
    photo.wait_for()
    assert photo.evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    page.locator("#about").scroll_into_view_if_needed()
    playwright.expect(page.locator(".card")).to_have_count(NUM_IMAGES)
    assert page.locator(".card .gone").all_text_contents() == ["photo missing"]


def test_the_gallery_is_sorted_and_searched(page: Any) -> None:
    cards = gallery(page)
    scores = {}
    for order in ("best", "worst"):
        page.select_option("#order", order)
        texts = cards.first.locator(".score").all_text_contents()
        scores[order] = sum(map(int, texts)) / len(texts)
    assert scores["best"] > scores["worst"]
    page.fill("#search", "FAMILY dog")
    playwright.expect(page.locator(".card")).to_have_count(1)
    assert HOSTILE[6] in cards.first.text_content()
    page.fill("#search", "no such words")
    playwright.expect(page.locator(".card")).to_have_count(0)
    assert page.inner_text("#gallery-count").startswith("0 of")


def test_words_without_support_and_false_claims_are_marked(page: Any) -> None:
    cards = gallery(page)
    page.fill("#search", "[/x]")
    playwright.expect(page.locator(".card")).to_have_count(1)
    caption = cards.first.locator(".captions li", has_text="[/x]")
    assert "dog" in "".join(caption.locator(".no").all_text_contents())
    line = caption.locator(".no").first.evaluate(
        "word => getComputedStyle(word).textDecorationLine"
    )
    assert line == "underline", "also without colour"
    assert "✗ number" in caption.text_content()
    others = cards.first.locator(".captions li").filter(has_not_text="[/x]")
    assert others.first.locator(".no").count() == 0
    assert "✗" not in others.first.text_content()


def test_a_word_shows_where_the_model_looked(page: Any) -> None:
    cards = gallery(page)
    page.fill("#search", LOOKS)
    playwright.expect(cards).to_have_count(1)
    caption = cards.first.locator(".captions li", has_text=LOOKS)
    photo = cards.first.locator("img").bounding_box()
    for word, brightest in (("looks", 0), ("twice", 3)):
        caption.get_by_text(word, exact=True).hover()
        overlay = cards.first.locator(".overlay")
        assert overlay.bounding_box()["width"] == pytest.approx(0.5 * photo["width"], abs=1)
        alphas = overlay.evaluate(
            "canvas => [...canvas.getContext('2d', { willReadFrequently: true })"
            ".getImageData(0, 0, 2, 2).data].filter((_, i) => i % 4 === 3)"
        )
        assert alphas.index(min(alphas)) == brightest, "row by row"
    page.mouse.move(0, 0)
    playwright.expect(cards.first.locator(".overlay")).to_have_count(0)
    caption.get_by_text("looks", exact=True).focus()
    playwright.expect(cards.first.locator(".overlay")).to_have_count(1)


def test_captions_are_shown_as_text(page: Any) -> None:
    cards = gallery(page)
    page.select_option("#order", "file")
    playwright.expect(cards.first.locator("figcaption")).to_have_text("test_00000.jpg")
    for i, text in enumerate(HOSTILE):
        shown = cards.nth(i).locator("bdi.text").all_text_contents()
        assert text.replace("\x1b", "␛") in shown
    assert page.locator(".captions script, .captions img, .captions b").count() == 0
    assert page.title() == "made_up: captionlab comparison"
    arabic = cards.nth(4).locator("bdi.text", has_text="كلب")
    assert arabic.evaluate("caption => getComputedStyle(caption).direction") == "rtl"
    assert "<i>no photo</i>" in page.inner_text("#failed")
    assert page.locator("#failed i, #table b").count() == 0


def test_commands_versions_and_failures_are_there(page: Any) -> None:
    about = page.inner_text("#about")
    assert "python run.py encoder=vgg decoder=lstm 'note=a b'" in about
    assert "captionlab 0.1.0, torch 2.14 (5 runs)" in about
    assert "Without a result (1)" in about


def test_without_a_varied_number_there_is_no_curve_of_one(page: Any) -> None:
    assert not page.locator("#varied").is_visible()
    assert not page.locator("nav a[href='#varied']").is_visible()


def test_every_control_can_be_reached_by_keyboard(page: Any) -> None:
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"filter", "baseline", "left", "heat-rows", "curve", "cost-number"} <= reached


def test_a_number_that_was_varied_is_a_curve(browser: Any, tmp_path: Path) -> None:
    results = Results(tmp_path)
    for seed, size in enumerate([1, 3, 5, 5]):
        results.run("vgg", "lstm", seed, 0.4 + 0.1 * seed, search={"beam_size": size})
        results.run("vgg", "gru", seed, 0.2 + 0.1 * seed, search={"beam_size": size})
    Comparison.read(sorted(tmp_path.glob("vgg-*"))).write(tmp_path / "report")
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "report" / "index.html").as_uri())
    assert page.inner_text("#varied-title") == "Scores against search.beam_size"
    assert page.locator("#varied-plot polyline").count() == 2
    assert page.locator("#varied-plot .point").count() == 6
    assert page.locator("#varied-plot .point circle").count() == 8
    page.locator("#varied-plot .point").nth(2).focus()
    assert "65.0 ±7.1, 2 seeds" in page.inner_text("#tip")
    page.fill("#filter", "gru")
    assert page.locator("#varied-plot polyline").count() == 1
    assert errors == []
    page.close()


def test_a_page_without_results_says_why(folder: Path, browser: Any, tmp_path: Path) -> None:
    Comparison.read([folder / "broken"]).write(tmp_path)
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "index.html").as_uri())
    assert "No run has a result yet" in page.inner_text("body")
    assert "<i>no photo</i>" in page.inner_text("#failed")
    assert errors == []
    page.close()
