"""The demo's server: captions over HTTP, and what it does with nonsense."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import captionlab
from captionlab.cli import main
from captionlab.demo import DemoModel, DemoServer, read_examples
from tests.support.runs import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[DemoServer]:
    """Two models, one with attention, and the photos of their test split."""
    runs = [place.run("looks"), place.run("reads", "conditioning=merge", "search=greedy")]
    place_examples(place, runs[0])
    models = [DemoModel.of(captionlab.load(run)) for run in runs]
    with DemoServer(models, read_examples(runs[0]), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def place_examples(place: Place, run: Path) -> None:
    """The configuration in the run's folder, as the engine writes it."""
    import yaml

    (run / "config.yaml").write_text(yaml.safe_dump(place.set_up()[0]))


def ask(
    server: DemoServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    is_json = answer.headers["Content-Type"].startswith("application/json")
    connection.close()
    return answer.status, json.loads(content) if is_json else content


def photo(kind: str = "PNG", size: tuple[int, int] = (60, 40)) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(file, kind)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it has so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100)))):
        check = struct.pack(">I", zlib.crc32(kind + data))
        content += struct.pack(">I", len(data)) + kind + data + check
    return content


def test_each_model_captions_a_photo_as_captionlab_load_does(server: DemoServer) -> None:
    image = Image.open(io.BytesIO(photo()))
    for number, model in enumerate(server.models):
        status, said = ask(server, "POST", f"/caption?model={number}", photo())
        expected = model.captioner(image, n_best=min(3, model.captioner.max_captions))
        assert (status, said["text"]) == (200, expected.text)
        assert said["probability"] == pytest.approx(expected.probability)
        assert [word["text"] for word in said["words"]] == [w.text for w in expected.words]
        others = [caption.text for caption in expected.alternatives[1:]]
        assert [caption["text"] for caption in said["alternatives"]] == others
        assert {word["map"] for word in said["words"]} <= {""}


@pytest.mark.parametrize("method", ["attention", "occlusion", "gradients"])
def test_words_have_maps_by_each_method_of_the_model(server: DemoServer, method: str) -> None:
    image = Image.open(io.BytesIO(photo()))
    for number, model in enumerate(server.models):
        status, said = ask(server, "POST", f"/caption?model={number}&method={method}", photo())
        if method not in model.facts()["methods"]:
            assert (status, method) == (400, "attention")
            assert "this model has no attention" in said["error"]
            continue
        explain: Any = None if method == "attention" else method
        expected = model.captioner(image, attention=method == "attention", explain=explain)
        assert said["text"] == expected.text
        assert expected.words
        maps = [w.attention if explain is None else w.saliency for w in expected.words]
        strongest = max(float(weights.max()) for weights in maps if weights is not None)
        for word, weights in zip(said["words"], maps, strict=True):
            assert weights is not None
            assert weights.shape == (said["rows"], said["columns"])
            scale = strongest if method == "occlusion" else weights.max()
            steps = np.array([int(digit, 16) for digit in word["map"]])
            # Half a step, and a little for sums in another order.
            assert steps / 15 == pytest.approx(np.maximum(weights.ravel(), 0) / scale, abs=0.05)


def test_an_unknown_method_is_one_line(server: DemoServer) -> None:
    status, said = ask(server, "POST", "/caption?model=0&method=magic", photo())
    assert (status, said["error"].count("\n")) == (400, 0)
    assert "explain='magic' is unknown" in said["error"]


def test_photos_of_the_test_split_are_offered_without_their_paths(
    server: DemoServer, place: Place
) -> None:
    facts = ask(server, "GET", "/facts")[1]
    assert [model["name"] for model in facts["models"]] == ["looks", "reads"]
    methods = [model["methods"] for model in facts["models"]]
    assert methods == [["attention", "gradients", "occlusion"], ["gradients", "occlusion"]]
    references = {i.captions for i in place.data.corpus.splits["test"]}
    assert {tuple(example) for example in facts["examples"]} == references
    assert str(place.folder) not in json.dumps(facts)
    assert ask(server, "GET", "/example?example=0")[1].startswith(b"\xff\xd8")
    assert ask(server, "POST", "/caption?model=0&example=0", b"")[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "expected"),
    [
        ("/caption?model=0", b"%PDF-1.7 no photo", 400, "photo you gave cannot be read: it is no"),
        ("/caption?model=0", b"", 400, "it is empty"),
        ("/photo", photo("JPEG")[:200], 400, "cannot be read"),
        ("/photo", bomb(10_000, 9_000), 400, "has 90 million pixels; the demo takes at most 50"),
        ("/photo", bomb(40_000, 25_000), 400, "exceeds limit"),
        ("/photo", bytes(20 * 2**20 + 1), 413, "has 20 MB; the demo takes at most 20 MB"),
        ("/caption?model=7", photo(), 404, "there is no model '7'"),
        ("/caption?model=-1", photo(), 404, "there is no model '-1'"),
        ("/caption?model=²", photo(), 404, "there is no model"),
        ("/caption?model=0&example=9999999999", b"", 404, "there is no example"),
        ("/../../etc/passwd", photo(), 404, "there is no /../../etc/passwd"),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else None,
)
def test_nonsense_is_answered_in_one_line_and_the_server_goes_on(
    server: DemoServer, path: str, body: bytes, status: int, expected: str
) -> None:
    try:
        found, said = ask(server, "POST", path.replace("²", "%C2%B2"), body)
    except ConnectionError:  # it hung up before it had read the 20 MB, as it may
        assert status == 413
    else:
        assert found == status
        assert expected in said["error"]
        assert "\n" not in said["error"]
    assert ask(server, "POST", "/caption?model=0", photo())[0] == 200


@pytest.mark.parametrize("path", ["/etc/passwd", "/style.css/..", "/demo", "/example?example=x"])
def test_no_other_file_is_served(server: DemoServer, path: str) -> None:
    assert ask(server, "GET", path)[0] == 404


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example:7860"}, {"Origin": "https://evil.example"}, {"Origin": "null"}],
)
def test_pages_of_other_sites_cannot_use_it(server: DemoServer, headers: dict[str, str]) -> None:
    assert ask(server, "GET", "/facts", **headers)[0] == 403
    assert ask(server, "POST", "/caption?model=0", photo(), **headers)[0] == 403


def test_many_clients_at_once_get_the_captions_of_one(server: DemoServer) -> None:
    sizes = [(40 + 9 * i, 50) for i in range(12)]
    alone = [ask(server, "POST", "/caption?model=0", photo(size=size))[1]["text"] for size in sizes]
    with ThreadPoolExecutor(12) as pool:
        answers = pool.map(
            lambda size: ask(server, "POST", "/caption?model=0", photo(size=size)), sizes
        )
        assert [said["text"] for _, said in answers] == alone


def test_a_full_queue_says_so(server: DemoServer) -> None:
    with server.working, ThreadPoolExecutor(30) as pool:
        first = [pool.submit(ask, server, "POST", "/photo", photo()) for _ in range(17)]
        refused = next(iter(f for f in _finished(first)))
        assert refused.result()[0] == 503
        assert "16 photos are waiting already" in refused.result()[1]["error"]
        server.working.release()
        done = [future.result()[0] for future in first]
        server.working.acquire()
    assert sorted(done) == [200] * 16 + [503]


def _finished(futures: list[Any]) -> Iterator[Any]:
    from concurrent.futures import as_completed

    yield from as_completed(futures, timeout=60)


def test_a_taken_port_and_a_wrong_one_are_one_line(
    server: DemoServer, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    run, port = str(place.folder / "reads"), server.server_address[1]
    assert main(["demo", "--run", run, "--port", str(port)]) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
    assert main(["demo", "--run", run, "--port", "70000"]) == 1
    assert "--port must be between 0 and 65535" in capsys.readouterr().err
    assert main(["demo", "--run", str(place.folder / "none")]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_it_ends_after_the_photo_in_work_and_before_the_next(place: Place) -> None:
    model = DemoModel.of(captionlab.load(place.folder / "reads"))
    begun, go_on, captioned = threading.Event(), threading.Event(), []

    def caption(self: DemoModel, photo: Image.Image, method: str | None) -> dict[str, Any]:
        begun.set()
        assert go_on.wait(60)
        captioned.append(method)
        return {}

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(DemoModel, "caption", caption)
        server = DemoServer([model], [], "127.0.0.1", 0)
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        pool.submit(ask, server, "POST", "/caption?model=0&method=first", photo())
        assert begun.wait(60)
        second = pool.submit(ask, server, "POST", "/caption?model=0&method=second", photo())
        while server._places._value > 14:  # until both hold a place
            time.sleep(0.01)
        server.shutdown()
        closing = threading.Thread(target=server.server_close)
        closing.start()
        closing.join(0.3)
        assert closing.is_alive(), "the photo is in work"
        go_on.set()
        closing.join(60)
        assert not closing.is_alive()
        serving.join()
        server.working.release()
        assert second.result() == (503, {"error": "the demo has ended"})
    assert captioned == ["first"]


def test_it_prints_its_address_and_ctrl_c_ends_it(server: DemoServer, place: Place) -> None:
    command = [sys.executable, "-m", "captionlab.cli", "demo", "--port", "0", "--run"]
    process = subprocess.Popen(
        [*command, str(place.folder / "reads")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("demo at http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (output.strip(), errors, process.returncode) == ("demo ended", "", 0)
