"""`s3pot serve` on a real server: real HTTP, real models, a real browser; and clients that misbehave."""

import io
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from ray import serve as ray_serve

from ray_jobs import serve
from ray_jobs.serve_config import ServeConfig
from ray_jobs.serve_example import example_photograph
from ray_jobs.serve_limits import ServeLimits
from s3pot.checkpoints.reading import WeightsError
from s3pot.config import ConfigError
from s3pot.data.run_lengths import decode_runs
from s3pot.images import decode_image, decode_png
from s3pot.segmenter import OcclusionSegmenter, SegmentationResult
from tests.browser import CHROMIUM, Page, chromium

EXAMPLE = example_photograph()
LIMITS = ServeLimits(megabytes=2, megapixels=4, read_seconds=2, waiting=5, held_megabytes=30)


def free_port() -> int:
    # Below Ray's own ports, and those that the system gives to clients.
    for port in range(8100, 9000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("no port is free")


@pytest.fixture(scope="module")
def server(ray_cluster: dict[str, object]) -> Iterator[str]:
    """The address of a server with the embedded models, on the cluster that all tests share."""
    config = ServeConfig(port=free_port(), batch_size=2, batch_wait_ms=20, cpus_per_replica=1, limits=LIMITS)
    serve.start(config)
    yield config.url
    serve.stop()
    ray_serve.shutdown()


@pytest.fixture(scope="module")
def expected() -> list[SegmentationResult]:
    return OcclusionSegmenter.load().predict_all(decode_image(EXAMPLE, "example"))


def jpeg(size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (90, 120, 40)).save(buffer, format="JPEG")
    return buffer.getvalue()


WALL = jpeg()  # no face: answered in milliseconds


def send(server: str, data: bytes, query: str = "", **headers: str) -> requests.Response:
    named = {"Content-Type": "image/jpeg"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(f"{server}segment{query}", data=data, headers=named, timeout=60)


def count(server: str, name: str, **labels: str) -> float:
    text = requests.get(f"{server}metrics", timeout=10).text
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples if one.name == name]
    return sum(one.value for one in samples if labels.items() <= one.labels.items())


def test_answers_what_the_library_says(server: str, expected: list[SegmentationResult]) -> None:
    answer = send(server, EXAMPLE)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["width"], body["height"], body["status"], body["batch"]) == (512, 512, "ok", 1)
    [face], [result] = body["faces"], expected
    assert face["score"] == pytest.approx(result.score, abs=1e-6)
    assert (face["status"], face["abstained"]) == (result.status, result.abstained)
    assert (decode_runs(face["mask"], (512, 512)) == result.occlusion).all()
    assert result.occlusion.sum() > 1000
    assert all(value >= 0 for value in body["timings_ms"].values())


def test_answers_a_form_and_pictures(server: str, expected: list[SegmentationResult]) -> None:
    files = {"image": ("photo.jpg", EXAMPLE, "image/jpeg")}
    mask = requests.post(f"{server}segment", files=files, headers={"Accept": "image/png"}, timeout=60)
    assert mask.headers["content-type"] == "image/png"
    assert ((decode_png(mask.content) == 255) == expected[0].occlusion).all()
    overlay = send(server, EXAMPLE, "?overlay=true", accept="image/png")
    changed = np.abs(decode_png(overlay.content).astype(int) - decode_image(EXAMPLE, "example")).max(axis=2) > 20
    assert changed[expected[0].occlusion].mean() > 0.9


def test_rotation_of_the_camera_is_followed(server: str) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    buffer = io.BytesIO()
    Image.open(io.BytesIO(EXAMPLE)).crop((0, 0, 512, 400)).transpose(Image.Transpose.ROTATE_90).save(
        buffer, format="JPEG", exif=turned, quality=95
    )
    body = send(server, buffer.getvalue(), "?mask=none").json()
    assert (body["width"], body["height"]) == (512, 400)
    assert body["status"] == "ok"


@pytest.mark.parametrize(
    ("data", "query", "headers", "status"),
    [
        (b"no picture", "", {}, 400),
        (EXAMPLE[:9000], "", {}, 400),  # its header is fine
        (bytes(2_100_000), "", {}, 413),
        (jpeg((2001, 2000)), "", {}, 413),
        (b"GIF89a", "", {}, 415),
        (WALL, "", {"content_type": "text/plain"}, 415),
        (WALL, "?mask=gif", {}, 422),
    ],
)
def test_refusals_are_sentences(server: str, data: bytes, query: str, headers: dict[str, str], status: int) -> None:
    answer = send(server, data, query, **headers)
    assert answer.status_code == status
    assert answer.json()["error"].endswith(".")


def test_other_paths_and_methods(server: str) -> None:
    assert requests.get(f"{server}nothing", timeout=10).status_code == 404
    answer = requests.get(f"{server}segment", timeout=10)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_health_and_readiness(server: str) -> None:
    assert requests.get(f"{server}healthz", timeout=10).json() == {"status": "ok"}
    assert requests.get(f"{server}readyz", timeout=10).json() == {"status": "ready"}


def test_photographs_that_come_together_are_computed_together(server: str) -> None:
    before = count(server, "s3pot_batch_size_count"), count(server, "s3pot_batch_size_bucket", le="1.0")
    with ThreadPoolExecutor(5) as pool:
        # A photograph with a face keeps the replica busy while the others arrive.
        answers = [pool.submit(send, server, data) for data in (EXAMPLE, WALL, EXAMPLE, WALL, EXAMPLE)]
        bodies = [answer.result().json() for answer in answers]
    assert [body["status"] for body in bodies] == ["ok", "no_face", "ok", "no_face", "ok"]
    assert max(body["batch"] for body in bodies) > 1
    after = count(server, "s3pot_batch_size_count"), count(server, "s3pot_batch_size_bucket", le="1.0")
    assert after[0] - before[0] == 5
    assert after[1] - before[1] < 5


def test_one_bad_photograph_does_not_harm_its_neighbours(server: str) -> None:
    sent = [EXAMPLE, EXAMPLE[:9000], WALL, b"no picture", EXAMPLE]
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda data: send(server, data), sent))
    assert [answer.status_code for answer in answers] == [200, 400, 200, 400, 200]


def test_too_many_at_once_are_told_to_come_back(server: str) -> None:
    with ThreadPoolExecutor(18) as pool:
        answers = list(pool.map(lambda _: send(server, EXAMPLE, "?mask=none"), range(18)))
    codes = {answer.status_code for answer in answers}
    assert codes == {200, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "3"
    assert refused.json()["error"].endswith(".")
    assert send(server, WALL).status_code == 200


def raw_request(server: str, head: str) -> socket.socket:
    host, port = server.removeprefix("http://").rstrip("/").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(f"POST /segment HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/jpeg\r\n{head}\r\n\r\n".encode())
    return connection


def status_of(connection: socket.socket) -> int:
    """Read to the end; the status of the answer."""
    answer = b""
    while chunk := connection.recv(65_536):
        answer += chunk
    return int(answer.split()[1])


def test_slow_huge_and_vanishing_clients_harm_nobody(server: str) -> None:
    slow = [raw_request(server, "Content-Length: 5000") for _ in range(40)]
    for connection in slow:
        connection.sendall(b"\xff\xd8")
    gone = raw_request(server, "Content-Length: 5000")
    gone.close()
    endless = raw_request(server, "Transfer-Encoding: chunked")
    huge = raw_request(server, f"Content-Length: {50_000_000_000}")
    assert status_of(huge) == 413
    sent = 0
    try:
        while sent < 400_000_000:
            endless.sendall(b"100000\r\n" + bytes(0x100000) + b"\r\n")
            sent += 0x100000
    except OSError:
        pass
    assert sent < 400_000_000, "the server took it all"
    started = time.monotonic()
    assert send(server, WALL).status_code == 200
    assert send(server, EXAMPLE).json()["status"] == "ok"
    waited = time.monotonic() - started
    assert {status_of(connection) for connection in slow} == {408}
    # They were served while the slow ones were still there.
    assert count(server, "s3pot_requests_total", path="/segment", status="408") == 40
    assert waited < 20
    assert count(server, "s3pot_held_bytes") == 0


def test_metrics_count(server: str) -> None:
    before = count(server, "s3pot_requests_total", path="/segment", status="200")
    send(server, WALL)
    assert count(server, "s3pot_requests_total", path="/segment", status="200") == before + 1
    assert count(server, "s3pot_stage_seconds_count", stage="decode") > 0
    assert count(server, "s3pot_request_seconds_sum", path="/segment") > 0


def test_prompts_can_be_changed_until_the_photograph_is_forgotten(server: str) -> None:
    face = send(server, EXAMPLE, "?mask=png&stages=true").json()["faces"][0]
    question = {"id": face["stages"]["id"]} | {
        kind: face["stages"][kind] for kind in ("occlusion_prompts", "face_prompts")
    }
    same = requests.post(f"{server}decode?mask=png", json=question, timeout=30).json()
    assert same["score"] == pytest.approx(face["score"], abs=1e-3)
    nothing = requests.post(f"{server}decode", json=question | {"occlusion_prompts": []}, timeout=30).json()
    assert (nothing["score"], nothing["status"]) == (0.0, "no_occlusion_prompts")
    outside = requests.post(f"{server}decode", json=question | {"occlusion_prompts": [5000]}, timeout=30)
    assert outside.status_code == 422
    assert requests.post(f"{server}decode", json=question | {"id": "guessed"}, timeout=30).status_code == 404


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with chromium() as page:
        yield page


DONE = "document.getElementById('message').textContent.startsWith('Done')"


def value_of(page: Page, script: str) -> Any:
    return page.evaluate(f"(() => {{ const $ = (id) => document.getElementById(id); return {script}; }})()")


def test_a_photograph_is_dropped_and_its_prompts_are_switched(server: str, browser: Page, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(EXAMPLE)
    browser.open(server)
    box = browser.evaluate("(({x, y}) => [x, y])(document.getElementById('drop').getBoundingClientRect())")
    browser.drop(file, box[0] + 40, box[1] + 40)
    browser.wait_for(DONE)
    browser.wait_for("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert value_of(browser, "$('stages').hidden || $('prompting').hidden") is False
    assert "something covers it" in value_of(browser, "$('facts').textContent")
    assert value_of(browser, "$('marks').querySelectorAll('circle.occlusion').length") > 3
    # The keyboard: the cursor stands on the first prompt; Space switches it off.
    counts, mask = value_of(browser, "$('counts').textContent"), value_of(browser, "$('mask').src")
    browser.evaluate("document.getElementById('board').focus()")
    browser.press(" ")
    assert value_of(browser, "$('cursor').textContent").endswith("cover, off")
    assert value_of(browser, "$('counts').textContent") != counts
    browser.wait_for("document.getElementById('mask-note').textContent.includes('from your prompts')")
    browser.press("ArrowRight")
    assert "column" in value_of(browser, "$('cursor').textContent")
    # The mouse: all off, then nothing is covered; as found, and it is again.
    browser.evaluate("document.getElementById('off-occlusion').click()")
    browser.wait_for("document.getElementById('facts').textContent.includes('nothing covers it')")
    assert value_of(browser, "$('mask').src") != mask
    browser.evaluate("document.getElementById('reset').click()")
    browser.wait_for("document.getElementById('facts').textContent.includes('something covers it')")
    assert value_of(browser, "$('counts').textContent") == counts
    assert browser.complaints == []


def test_the_page_on_a_phone(server: str, browser: Page) -> None:
    browser.addresses.clear()
    browser.open(f"{server}?example=1", 390, 844, phone=True)
    browser.wait_for(DONE)
    assert value_of(browser, "document.documentElement.scrollWidth") <= 390
    small = (
        "[...document.querySelectorAll('button, .button')].filter((e) => e.offsetHeight && e.offsetHeight < 38).length"
    )
    assert value_of(browser, small) == 0
    assert {url.partition("?")[0] for url in browser.addresses if not url.startswith(("data:", "blob:"))} == {
        server, f"{server}example", f"{server}segment",
    }  # fmt: skip
    assert browser.complaints == []


def test_a_file_that_is_no_photograph_is_a_sentence_on_the_page(server: str, browser: Page, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no picture")
    browser.open(server)
    browser.choose_file("#file", file)
    browser.wait_for("document.getElementById('message').classList.contains('error')")
    assert "This is no picture" in value_of(browser, "$('message').textContent")
    browser.complaints.clear()  # Chromium itself reports a 400


def test_a_port_that_is_taken_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port={port} is taken"):
            serve._check_port(ServeConfig(port=port))
    with pytest.raises(ConfigError, match="cannot be listened at"):
        serve._check_port(ServeConfig(host="203.0.113.7"))


def test_missing_packages_and_weights_are_sentences(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serve, "_NEEDS", ("starlette", "no_such_package"))
    with pytest.raises(ConfigError, match=r"no_such_package.*pip install 's3pot\[serve\]'"):
        serve._check_packages()
    with pytest.raises(WeightsError, match="nowhere"):
        serve._check_weights(ServeConfig(head=tmp_path / "nowhere.safetensors"))


def test_another_host_than_loopback_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stop_here() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serve.cluster, "connect", stop_here)
    for host, warned in (("127.0.0.1", False), ("0.0.0.0", True)):
        caplog.clear()
        with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
            serve.serve(ServeConfig(host=host, port=free_port()))
        assert ("biometric" in caplog.text and "no authentication" in caplog.text) is warned


@pytest.mark.slow
def test_ctrl_c_ends_it_cleanly(repository: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "ray_jobs.cli", "serve", f"port={port}"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(repository)
    process = subprocess.Popen(command, cwd=repository, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "serving at" in line:
            break
    assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=10).status_code == 200
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 0, "".join(lines) + rest
    assert "stopping" in rest
    assert "Traceback" not in rest
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5)
