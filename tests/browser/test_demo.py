"""The demo in a real browser: photos, captions of two models, attention and nonsense."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import captionlab
from captionlab.demo import DemoModel, DemoServer, read_examples
from tests.browser.conftest import BROWSER
from tests.support.runs import Place

playwright = pytest.importorskip("playwright.sync_api", reason="run by nox -s browser")
pytestmark = pytest.mark.skipif(not BROWSER, reason="there is no chromium")

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    place = Place(tmp_path_factory.mktemp("place"))
    runs = [place.run("looks"), place.run(HOSTILE, "conditioning=merge")]
    (runs[0] / "config.yaml").write_text(yaml.safe_dump(place.set_up()[0]))
    models = [DemoModel.of(captionlab.load(run)) for run in runs]
    with DemoServer(models, read_examples(runs[0]), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(params=[(1600, "light"), (400, "dark")], ids=["wide-light", "narrow-dark"])
def page(server: DemoServer, browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, opened; afterwards: no error, and no request to any other host."""
    width, scheme = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(server.address)
    page.locator("#examples button").first.wait_for()
    yield page
    page.close()
    # The browser itself reports answers that are errors; those are asked for below.
    assert [
        text for text in messages if "the server responded with a status of 4" not in text
    ] == []
    assert [url for url in requests if not url.startswith((server.address, "data:"))] == []


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.linear_gradient("L").resize((300, 200)).convert("RGB").save(tmp_path / "a.png")
    return tmp_path / "a.png"


def captions(page: Any) -> list[str]:
    """What the models say, once both have spoken."""
    playwright.expect(page.locator("article .caption")).to_have_count(2, timeout=60_000)
    words = [
        caption.locator(".word bdi").all_inner_texts() for caption in page.locator(".caption").all()
    ]
    return [" ".join(texts) for texts in words]


def test_a_photo_is_captioned_by_both_models(page: Any, server: DemoServer, photo: Path) -> None:
    page.set_input_files("#file", photo)
    expected = [model.captioner(photo).text for model in server.models]
    assert captions(page) == expected
    assert page.locator("article h2").all_inner_texts() == ["looks", HOSTILE]
    assert page.locator("article img").count() == 0, "names are text"
    assert "no attention to show" in page.locator("article").nth(1).inner_text()
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_a_word_shows_where_the_model_looked(page: Any, photo: Path) -> None:
    page.set_input_files("#file", photo)
    captions(page)
    word = page.locator("article").first.locator(".looks").first
    shown = page.locator("figure .overlay")
    playwright.expect(shown).to_have_count(0)
    word.hover()
    playwright.expect(shown).to_have_count(1)
    overlay, picture = shown.bounding_box(), page.locator("figure img").bounding_box()
    # The model saw the central square of a photo of 300 x 200 pixels.
    assert overlay["height"] == overlay["width"] == pytest.approx(picture["height"], abs=1)
    left = picture["x"] + (picture["width"] - picture["height"]) / 2
    assert overlay["x"] == pytest.approx(left, abs=1)
    assert "looks looked" in page.inner_text("#word")
    page.mouse.move(0, 0)
    playwright.expect(shown).to_have_count(0)
    word.focus()
    playwright.expect(shown).to_have_count(1)
    assert page.locator("article").nth(1).locator(".looks").count() == 0


@pytest.mark.parametrize("method", ["occlusion", "gradients"])
def test_a_model_without_attention_says_what_each_word_depends_on(
    page: Any, server: DemoServer, photo: Path, method: str
) -> None:
    page.set_input_files("#file", photo)
    expected = captions(page)
    card = page.locator("article").nth(1)
    choice = card.locator("select")
    assert choice.locator("option").count() == 3
    assert "some seconds" in choice.inner_text()
    choice.select_option(method)
    words = card.locator(".looks")
    playwright.expect(words).to_have_count(card.locator(".word").count(), timeout=60_000)
    assert captions(page) == expected
    words.first.hover()
    playwright.expect(page.locator("figure .overlay")).to_have_attribute("width", "8")
    shown = page.locator("figure .overlay").evaluate(
        "canvas => [...canvas.getContext('2d').getImageData(0, 0, 8, 8).data]"
        ".filter((_, i) => i % 4 === 3)"
    )
    said = server.models[1].caption(Image.open(photo), method)["words"][0]["map"]
    alphas = [round(255 * 0.8 * (1 - int(digit, 16) / 15)) for digit in said]
    assert shown == pytest.approx(alphas, abs=14), "a step of the 15, row by row"
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    choice.select_option("")
    playwright.expect(words).to_have_count(0)
    assert "no attention to show" in card.inner_text()


def test_attention_comes_first_and_the_other_methods_are_offered_beside_it(
    page: Any, photo: Path
) -> None:
    page.set_input_files("#file", photo)
    captions(page)
    card = page.locator("article").first
    assert card.locator("select").input_value() == "attention"
    width = page.locator("figure .overlay").get_attribute
    card.locator(".looks").first.hover()
    assert width("width") == "6"
    card.locator("select").select_option("gradients")
    status = card.locator("[role=status]")
    playwright.expect(status).to_contain_text("pixels change it most", timeout=60_000)
    card.locator(".looks").first.hover()
    assert width("width") == "8"


def test_a_test_photo_is_shown_with_its_references(page: Any) -> None:
    page.locator("#examples button").nth(1).press("Enter")
    captions(page)
    assert page.locator("#references li").count() == 2


def test_nonsense_gives_a_message_and_the_page_goes_on(
    page: Any, photo: Path, tmp_path: Path
) -> None:
    nonsense = tmp_path / "a.jpg"
    nonsense.write_text("no photo")
    page.set_input_files("#file", nonsense)
    message = page.locator("#message")
    playwright.expect(message).to_contain_text("photo you gave cannot be read: it is no image")
    nonsense.write_bytes(bytes(20 * 2**20 + 1))
    page.set_input_files("#file", nonsense)
    playwright.expect(message).to_contain_text("the demo takes at most 20 MB")
    page.set_input_files("#file", photo)
    assert len(captions(page)) == 2
    assert not message.is_visible()


def test_pages_that_ask_at_once_get_their_own_captions(
    server: DemoServer, browser: Any, tmp_path: Path
) -> None:
    pages = [browser.new_page() for _ in range(4)]
    for number, page in enumerate(pages):
        path = tmp_path / f"{number}.png"
        Image.linear_gradient("L").rotate(90 * number).convert("RGB").save(path)
        page.goto(server.address)
        page.locator("#examples button").first.wait_for()
        page.set_input_files("#file", path)
    for number, page in enumerate(pages):
        path = tmp_path / f"{number}.png"
        assert captions(page) == [model.captioner(path).text for model in server.models]
        page.close()


def test_the_last_photo_wins(page: Any, server: DemoServer, photo: Path) -> None:
    page.locator("#examples button").first.click()
    page.set_input_files("#file", photo)
    playwright.expect(page.locator("figure img")).to_have_attribute("alt", "a.png")
    assert captions(page) == [model.captioner(photo).text for model in server.models]
