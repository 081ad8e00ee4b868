"""The signer's key and certificate: one pair for an installation, made once, whoever comes first."""

from __future__ import annotations

import multiprocessing
import stat
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from common.errors import PrivFedTalkError
from training.generation.marks.identity import ENVIRONMENT_VARIABLE, make_identity, open_identity

SIGNERS = 8


def open_together(folder: str, start: Barrier, found: multiprocessing.SimpleQueue[tuple[str, str]]) -> None:
    start.wait()
    try:
        identity = open_identity(Path(folder))
        found.put((identity.chain, identity.key))
    except Exception as error:
        found.put((type(error).__name__, str(error)))


def test_first_signers_at_once_all_get_the_same_pair(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("fork")
    for attempt in range(3):
        folder, start, found = tmp_path / str(attempt), processes.Barrier(SIGNERS), processes.SimpleQueue()
        signers = [processes.Process(target=open_together, args=(str(folder), start, found)) for _ in range(SIGNERS)]
        for signer in signers:
            signer.start()
        pairs = {found.get() for _ in signers}
        for signer in signers:
            signer.join()
        identity = open_identity(folder)  # refuses a key and a certificate that do not belong together
        assert pairs == {(identity.chain, identity.key)}


def test_the_key_is_the_owners_alone_from_its_first_byte(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "signing"
    open_identity(folder)
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    left = {path.name for path in folder.iterdir()}
    assert left == {"key.pem", "chain.pem", ".lock"}


@pytest.mark.parametrize("name", ["key", "chain"])
def test_a_key_and_a_certificate_of_two_pairs_are_refused(tmp_path: Path, name: str) -> None:
    open_identity(tmp_path)
    (tmp_path / f"{name}.pem").write_text(getattr(make_identity(), name))
    with pytest.raises(PrivFedTalkError, match="do not belong together"):
        open_identity(tmp_path)


@pytest.mark.parametrize("name", ["key.pem", "chain.pem"])
def test_what_is_no_pem_is_named(tmp_path: Path, name: str) -> None:
    open_identity(tmp_path)
    (tmp_path / name).write_text("la la la")
    with pytest.raises(PrivFedTalkError, match="cannot be read"):
        open_identity(tmp_path)


@pytest.mark.parametrize("home", ["in the way", None])
def test_a_home_that_cannot_hold_it_names_the_variable_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / "in the way").write_text("a file")
    if home:
        monkeypatch.setenv("HOME", str(tmp_path / home))
    else:  # as in a container whose user no table knows
        monkeypatch.setattr(Path, "expanduser", nobody)
    with pytest.raises(PrivFedTalkError) as refused:
        open_identity()
    assert f"export {ENVIRONMENT_VARIABLE}=FOLDER" in refused.value.remedy


def nobody(path: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")
