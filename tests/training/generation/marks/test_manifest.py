"""The C2PA manifest: what it says is read back, a change is seen, a stripped one is missed."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import av
import pytest

from common.errors import PrivFedTalkError
from preparation.media.writing import encode
from tests.preparation.conftest import noise, tone
from training.generation.marks.identity import Identity, make_identity, open_identity
from training.generation.marks.manifest import Maker, attach, read_manifest
from training.generation.marks.verify import verify
from training.generation.marks.watermark import embed

MAKER = Maker("a1" * 32, "b2" * 32, "privfedtalk", "global")


@pytest.fixture(scope="module")
def identity() -> Identity:
    return make_identity()


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, identity: Identity) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    encode(embed(noise(25, 128, 128), MAKER.payload()), tone(1.0), folder / "plain.mp4")
    attach(folder / "plain.mp4", folder / "talk.mp4", MAKER, identity, "talk.mp4")
    return folder / "talk.mp4"


def test_it_says_that_the_clip_is_synthetic_and_by_which_model(signed: Path) -> None:
    manifest = read_manifest(signed)
    assert manifest is not None and manifest.valid and manifest.synthetic
    assert (manifest.maker, manifest.title) == (MAKER, "talk.mp4")
    # Nobody vouches for a certificate that was made here, and it does not claim so.
    assert not manifest.trusted and manifest.failures == ["signingCredential.untrusted"]
    verdict = verify(signed)
    assert verdict.evidence == "manifest" and verdict.agree
    assert verdict.to_json()["watermark"]["model_sha256_begins"] == "a1a1a1"


def test_a_changed_byte_is_seen(signed: Path, tmp_path: Path) -> None:
    content = bytearray(signed.read_bytes())
    content[-100] ^= 1
    (tmp_path / "changed.mp4").write_bytes(content)
    manifest = read_manifest(tmp_path / "changed.mp4")
    assert manifest is not None and not manifest.valid
    assert verify(tmp_path / "changed.mp4").evidence == "hint"  # the watermark is there, and that is all
    assert "assertion.bmffHash.mismatch" in manifest.failures


def test_a_stripped_manifest_leaves_the_watermark(signed: Path, tmp_path: Path) -> None:
    """Remuxing, as every platform does, takes the manifest away and not the pixels."""
    with av.open(str(signed)) as source, av.open(str(tmp_path / "bare.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    verdict = verify(tmp_path / "bare.mp4")
    assert verdict.manifest is None and verdict.agree is None
    assert verdict.evidence == "hint" and verdict.watermark.payload == MAKER.payload()


def test_an_unmarked_clip_has_neither(tmp_path: Path) -> None:
    encode(noise(25), None, tmp_path / "plain.mp4")
    assert verify(tmp_path / "plain.mp4").evidence == "none"
    encode(noise(25), None, tmp_path / "real.mp4")
    shutil.copy(tmp_path / "real.mp4", tmp_path / "real.bin")
    assert read_manifest(tmp_path / "real.bin") is None


def test_a_manifest_that_belongs_to_another_model_is_noticed(signed: Path, identity: Identity, tmp_path: Path) -> None:
    attach(signed.with_name("plain.mp4"), tmp_path / "lie.mp4", Maker("c3" * 32, "d4" * 32, "x", "y"), identity, "lie")
    assert verify(tmp_path / "lie.mp4").agree is False


def test_an_identity_is_made_once_and_its_key_is_the_owners_alone(tmp_path: Path) -> None:
    made = open_identity(tmp_path / "signing")
    assert open_identity(tmp_path / "signing") == made
    assert stat.S_IMODE((tmp_path / "signing" / "key.pem").stat().st_mode) == 0o600
    (tmp_path / "signing" / "key.pem").unlink()
    with pytest.raises(PrivFedTalkError, match=r"key\.pem beside it is not"):
        open_identity(tmp_path / "signing")


def test_what_a_signer_writes_is_kept_on_one_line(signed: Path, identity: Identity, tmp_path: Path) -> None:
    loud = Maker("c3" * 32, "d4" * 32, "x\n\x1b[2Jy", "z" * 1000)
    attach(signed.with_name("plain.mp4"), tmp_path / "loud.mp4", loud, identity, "[bold]title\u202e")
    manifest = read_manifest(tmp_path / "loud.mp4")
    assert manifest is not None and manifest.maker is not None
    assert (manifest.maker.method, manifest.title) == ("x [2Jy", "[bold]title")
    assert len(manifest.maker.adapter) == 300
