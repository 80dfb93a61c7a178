import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from s3pot.checkpoints.download import download
from s3pot.checkpoints.reading import WeightsError
from tests.file_server import FileServer, serving

# Several blocks of the downloader.
CONTENT = np.random.default_rng(0).bytes(700_000)
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(CONTENT) as started:
        yield started


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "weights.pth"


@pytest.fixture
def part(target: Path) -> Path:
    target.parent.mkdir()
    return target.with_name("weights.pth.part")


def files_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


@pytest.mark.parametrize("sha256", [HASH, None])
def test_a_file_arrives_whole_and_alone(server: FileServer, target: Path, sha256: str | None) -> None:
    assert download(server.url, target, sha256) == target
    assert target.read_bytes() == CONTENT
    assert files_beside(target) == ["weights.pth"]
    assert server.asked == [None]


def test_progress_counts_up_to_all_of_it(server: FileServer, target: Path) -> None:
    told: list[tuple[int, int | None]] = []
    download(server.url, target, HASH, lambda done, total: told.append((done, total)))
    assert len(told) > 2
    assert told == sorted(told)
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in told} == {len(CONTENT)}


def test_a_server_that_does_not_say_how_much_it_sends(server: FileServer, target: Path) -> None:
    server.length = False
    told: list[tuple[int, int | None]] = []
    download(server.url, target, HASH, lambda done, total: told.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), None)


def test_a_cut_connection_is_taken_up_where_it_ended(server: FileServer, target: Path) -> None:
    server.cuts, server.cut_after = 2, 300_001
    told: list[int] = []
    download(server.url, target, HASH, lambda done, total: told.append(done))
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300001-", "bytes=600002-"]
    assert told == sorted(told), "the count goes on, too"


def test_what_an_earlier_call_left_is_gone_on_with(server: FileServer, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT[:123_456])
    told: list[int] = []
    download(server.url, target, HASH, lambda done, total: told.append(done))
    assert target.read_bytes() == CONTENT
    assert server.asked == ["bytes=123456-"]
    assert told[0] > 123_456
    assert files_beside(target) == ["weights.pth"]


def test_a_connection_that_brings_nothing_ends_it_and_keeps_what_came(
    server: FileServer, target: Path, part: Path
) -> None:
    part.write_bytes(CONTENT[:1000])
    server.cuts, server.cut_after = 9, 0
    with pytest.raises(WeightsError, match=r"cut off after 1000 bytes.*again to go on"):
        download(server.url, target, HASH)
    assert part.read_bytes() == CONTENT[:1000]
    assert server.cuts == 8, "one try without a byte is enough"
    server.cuts = 0
    download(server.url, target, HASH)
    assert target.read_bytes() == CONTENT


def test_a_server_that_cannot_go_on_in_the_middle_sends_all_of_it(server: FileServer, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT[:123_456])
    server.ranges = False
    download(server.url, target, HASH)
    assert target.read_bytes() == CONTENT
    assert server.asked == ["bytes=123456-"]


def test_a_server_that_goes_on_elsewhere_is_an_error(server: FileServer, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT[:1000])
    server.shift = 5
    with pytest.raises(WeightsError, match="answered 206 to a request for bytes 1000 and on"):
        download(server.url, target, HASH)
    assert part.read_bytes() == CONTENT[:1000]


def test_a_part_of_an_older_version_is_replaced(server: FileServer, target: Path, part: Path) -> None:
    part.write_bytes(b"older" * 1000)
    download(server.url, target, HASH)
    assert target.read_bytes() == CONTENT
    assert server.asked == ["bytes=5000-", None]


def test_a_part_longer_than_the_file_is_replaced(server: FileServer, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT + b"more")
    download(server.url, target, HASH)
    assert target.read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_part_that_is_complete_gets_its_name(server: FileServer, target: Path, part: Path) -> None:
    part.write_bytes(CONTENT)
    download(server.url, target, HASH)
    assert target.read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_complete_part_of_another_file_is_replaced(server: FileServer, target: Path, part: Path) -> None:
    part.write_bytes(bytes(len(CONTENT)))
    download(server.url, target, HASH)
    assert target.read_bytes() == CONTENT


def test_without_a_checksum_a_part_is_not_trusted(server: FileServer, target: Path, part: Path) -> None:
    part.write_bytes(b"older")
    download(server.url, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None]


def test_another_file_is_dropped_and_named(server: FileServer, target: Path) -> None:
    server.content = b"<html>please log in</html>"
    came = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(WeightsError, match=rf"26 bytes with SHA-256 {came}, expected {HASH}") as caught:
        download(server.url, target, HASH)
    assert server.url in str(caught.value)
    assert files_beside(target) == []
    assert server.asked == [None], "the same would come again"


def test_what_lies_there_is_checked_and_never_replaced(server: FileServer, target: Path, part: Path) -> None:
    target.write_bytes(b"my own weights")
    part.write_bytes(b"half")
    with pytest.raises(WeightsError, match=r"weights\.pth: a file is there already.*Move it away"):
        download(server.url, target, HASH)
    assert target.read_bytes() == b"my own weights"
    assert part.read_bytes() == b"half"
    target.write_bytes(CONTENT)
    assert download(server.url, target, HASH) == target
    assert server.asked == [], "nobody was asked"


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_refusal_is_named_and_nothing_is_lost(server: FileServer, target: Path, part: Path, status: int) -> None:
    part.write_bytes(CONTENT[:1000])
    server.status = status
    with pytest.raises(WeightsError, match=rf"weights\.pth: the server answered {status} "):
        download(server.url, target, HASH)
    assert part.read_bytes() == CONTENT[:1000]
    assert server.asked == ["bytes=1000-"]


def test_nobody_at_the_address(server: FileServer, target: Path) -> None:
    with serving(b"") as gone:
        pass
    with pytest.raises(WeightsError, match=r"cannot be reached \(.*refused"):
        download(gone.url, target, HASH)
    assert files_beside(target) == []


def test_a_redirect_is_followed(server: FileServer, target: Path) -> None:
    with serving(b"") as other:
        other.redirect = server.url
        download(other.url, target, HASH)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("address", ["http://example.org/x.pth", "ftp://127.0.0.1/x.pth", "file:///etc/passwd", "x"])
def test_only_https_is_fetched_over(target: Path, address: str) -> None:
    with pytest.raises(WeightsError, match="over https only"):
        download(address, target, HASH)


@pytest.mark.parametrize("address", ["http://example.org/x.pth", "ftp://127.0.0.1/x.pth", "file:///etc/passwd"])
def test_nor_is_a_redirect_followed_elsewhere(server: FileServer, target: Path, address: str) -> None:
    server.redirect = address
    with pytest.raises(WeightsError, match=r"over https only|not allowed") as caught:
        download(server.url, target, HASH)
    assert address in str(caught.value)
    assert files_beside(target) == []


def test_a_place_that_cannot_be_written_is_named(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no folder")
    with pytest.raises(WeightsError, match=r"weights\.pth: cannot be written"):
        download(server.url, tmp_path / "file" / "weights.pth", HASH)
    assert server.asked == []
