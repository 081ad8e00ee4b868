"""Downloads against a real server on the loopback interface: the same code that reaches the world."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common.errors import CorruptFileError, PrivFedTalkError
from common.weights import registry as weights
from common.weights.downloads import BLOCK_BYTES, address, fetch
from common.weights.registry import Weight

CONTENT = bytes(range(256)) * (BLOCK_BYTES // 200)  # a little more than one block


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; `/short.bin` promises more bytes than it sends."""

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/short.bin":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"only this")
        return None


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "network.bin").write_bytes(CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of weights and no other folder that is looked in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path / "named"))
    return tmp_path / "cache" / "privfedtalk" / "weights"


def register(monkeypatch: pytest.MonkeyPatch, source: str, sha256: str | None) -> None:
    weight = Weight("network.bin", len(CONTENT), sha256, source, "MIT", "a test network")
    monkeypatch.setitem(weights.REGISTRY, "network", weight)


def test_what_arrives_is_what_was_meant(served: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, f"{served}/network.bin", hashlib.sha256(CONTENT).hexdigest())
    path = fetch("network")
    assert path == cache / "network.bin" and path.read_bytes() == CONTENT
    assert weights.find("network") == path
    (cache.parents[2] / "served" / "network.bin").unlink()
    assert fetch("network") == path  # it is there: nothing is downloaded


def test_another_file_leaves_nothing(served: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, f"{served}/network.bin", "0" * 64)
    with pytest.raises(CorruptFileError, match="registered is 0000"):
        fetch("network")
    assert list(cache.iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing(served: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, f"{served}/short.bin", hashlib.sha256(b"only this").hexdigest())
    with pytest.raises(PrivFedTalkError, match="broke off"):
        fetch("network")
    assert list(cache.iterdir()) == []


def test_an_address_that_does_not_answer_is_named(served: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source, reason in ((f"{served}/absent.bin", "not found"), ("http://127.0.0.1:9/network.bin", "refused")):
        register(monkeypatch, source, "0" * 64)
        with pytest.raises(PrivFedTalkError, match=reason) as caught:
            fetch("network")
        assert source in caught.value.reason and str(cache / "network.bin") in caught.value.remedy


def test_an_unknown_sha256_is_refused_then_trusted_then_binding(
    served: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, f"{served}/network.bin", None)
    with pytest.raises(PrivFedTalkError, match="no sha256"):
        fetch("network")
    path = fetch("network", trust=True)
    assert weights.trusted(cache) == {"network.bin": hashlib.sha256(CONTENT).hexdigest()}
    assert weights.find("network") == path
    path.write_bytes(b"replaced in silence")
    with pytest.raises(CorruptFileError, match="sha256"):
        weights.find("network")
    with pytest.raises(CorruptFileError, match="is not a test network"):
        fetch("network", trust=True)  # trust is given once, not to whatever lies there


def test_a_copied_file_that_nobody_vouches_for_does_not_count(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "http://127.0.0.1:9/network.bin", None)
    cache.mkdir(parents=True)
    (cache / "network.bin").write_bytes(CONTENT)
    with pytest.raises(CorruptFileError, match="cannot be verified"):
        weights.find("network")
    fetch("network", trust=True)  # what lies there is accepted; nothing is downloaded
    assert weights.find("network") == cache / "network.bin"


def test_a_source_in_a_repository_is_the_committed_file() -> None:
    assert address(weights.REGISTRY["taef2_encoder"]) == (
        "https://raw.githubusercontent.com/madebyollin/taesd/5cccb12dc72074a4be35680c3b108548a7c69978/taef2_encoder.pth"
    )
    assert address(weights.REGISTRY["inception"]).startswith("https://github.com/toshas/torch-fidelity/releases/")


def test_unknown_name_lists_the_known(cache: Path) -> None:
    with pytest.raises(PrivFedTalkError, match="inception"):
        fetch("incepton")
