"""Nobody's clips are read for what they forbid: no module goes past the gate, and no real reader opens their files."""

from __future__ import annotations

import ast
import datetime
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assets.preparation.samples import coded_faces, save_coded_faces
from common.errors import PrivFedTalkError
from common.folders import RunFolder
from evaluation.experiments.driver import make_point
from evaluation.experiments.study.settings import StudySettings
from evaluation.experiments.study.setups import Arm, Setup, point_of
from evaluation.experiments.study.worlds import CENTRE, Population, make_world, public_folder, world_folder
from evaluation.measuring.models import open_model
from preparation.clients.consent import Consent, write_consent
from preparation.clients.report import report_clients
from preparation.settings import PreparationSettings
from preparation.shards.thumbnails import thumbnail_sheet
from tests import small_whole_run as small
from tests.test_floors import FLOORS, named, sources
from training.federation.client.storage import ClientStorage
from training.generation.talker import open_talker
from training.learning.eligible import short_clients
from training.learning.public import (
    read_federation_validation,
    read_public_frames,
    read_public_validation,
    stream_public,
)

ROOT = Path(__file__).resolve().parents[1]
READERS = {"read_shards", "load_crop"}
DECODERS = {"open_video", "Video", "decoded", "open_sound", "Sound", "moments"}
FILES = re.compile(r"(?:crops|shards)/\S*\.(?:mp4|safetensors|tar)")
"""Patterns for people's own files; their .json holds counts and settings."""
PAST_THE_GATE = {
    "preparation/shards/store.py": "defines the reading of shards",
    "preparation/crops/crop.py": "makes and defines crops, from clips that the run was given",
    "preparation/clients/gate.py": "the gate to crops",
    "preparation/shards/gate.py": "the gate to shards",
    "preparation/shards/samples.py": "makes shards of crops",
    "preparation/clients/identity.py": "checks that a folder's clips show one face; keeps cosines, no face",
    "preparation/corpora/manifest.py": "makes the table of the run's clips, from headers and first pictures",
    "preparation/media/video.py": "defines the decoders",
    "preparation/media/sound.py": "defines the decoders",
    "preparation/crops/footage.py": "reads the clip of which a crop is made",
    "preparation/corpora/hdtf/cut.py": "cuts clips of the videos that the run was given",
    "preparation/media/picture.py": "reads the first frame of a clip that the user hands to `generate`",
    "preparation/media/previews.py": "draws the file that its callers chose",
    "preparation/crops/portrait.py": "reads the picture and the sound that users hand to `generate`, none of the run",
    "training/generation/marks/verify.py": "reads the video that the user hands to `verify`",
    "preparation/corpora/studio/sheet.py": "shows clips of a rendered corpus, of nobody",
    "evaluation/report/showcase.py": "shows generated videos of clips that `read_evaluation_clips` admitted",
    "evaluation/report/page.py": "shows the videos that `showcase` made",
    "assets/evaluation/panel.py": "shows a video that this evaluation has just made",
    "assets/evaluation/nightly.py": "shows videos that this night has just made",
    "assets/preparation/samples.py": "shows first frames of clips that `shown` admitted",
    "assets/stage/metadata.py": "draws the file that its callers chose",
}


def past_the_gate(source: str) -> set[str]:
    """The names by which a module reads people's clips itself, imported or looked up on a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            found |= names & READERS
            own = (node.module or "").startswith("preparation.media")
            found |= names & DECODERS if own else set()
            found |= {"tarfile"} if node.module == "tarfile" else set()
        elif isinstance(node, ast.Import):
            found |= {"tarfile"} & {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found |= {node.attr} & READERS
        elif isinstance(node, ast.FunctionDef):
            found |= {node.name} & READERS
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(FILES.findall(node.value))
    return found


@pytest.mark.parametrize("name", named(sources(*FLOORS)))
def test_no_module_goes_past_the_gate(name: str) -> None:
    found = past_the_gate((ROOT / name).read_text())
    assert not found or name in PAST_THE_GATE, f"{name} reads clips by {sorted(found)}: ask `preparation.shards.gate`"


def test_the_list_of_those_who_may_is_as_short_as_can_be() -> None:
    needless = {name for name in PAST_THE_GATE if not past_the_gate((ROOT / name).read_text()) - {"tarfile"}}
    assert needless <= {"preparation/media/video.py", "preparation/media/sound.py"}


@pytest.mark.parametrize(
    "source",
    [
        "from preparation.shards.store import read_shards",
        "from preparation.shards.gate import read_shards as peek",
        "import preparation.shards.store as shards\nshards.read_shards(folder)",
        "def face(folder):\n    from preparation.crops.crop import load_crop\n    return load_crop(folder, 'a')",
        "from preparation.media.video import open_video\nopen_video(run.crops(name) / 'a.mp4')",
        "from preparation.media.sound import open_sound\nopen_sound(run.crops(name) / 'a.mp4').samples()",
        "import tarfile",
        "root.glob('clients/*/crops/*.mp4')",
    ],
)
def test_a_reader_that_does_not_ask_is_found(source: str) -> None:
    assert past_the_gate(source)


_opened: list[str] | None = None


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    # A folder is opened to be removed, or so that what was renamed in it is on the disk.
    if event == "open" and _opened is not None and arguments and not Path(str(arguments[0])).is_dir():
        _opened.append(str(arguments[0]))


sys.addaudithook(_listen)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = small.make_run(tmp_path_factory.mktemp("trained") / "mine")
    small.train(run)
    return run.root


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Iterator[RunFolder]:
    """A trained run in which four people have since revoked; what is left of their clips breaks whoever reads it."""
    global _opened
    shutil.copytree(trained, tmp_path / "mine")
    folder = RunFolder(tmp_path / "mine")
    for name in GONE:
        forbid(folder, name)
    _opened = []
    yield folder
    _opened = None


GONE = ("bela", "ugo", "pepe", "vera")
"""A client, an unseen person, a public speaker who is held out, and the volunteer."""


def forbid(run: RunFolder, name: str) -> None:
    """Revoke, and make every file with somebody's face, voice or what was learnt of them unreadable."""
    day = datetime.date(2026, 1, 1)
    write_consent(run, name, Consent(who=name, granted=day, revoked=day))
    home = run.client(name)
    for path in [*home.glob("shards/*.tar"), *home.glob("crops/*"), *home.glob("methods/*/adapter/*.safetensors")]:
        path.write_bytes(b"nobody may read this")


def opened_of(run: RunFolder, name: str) -> list[str]:
    """What was opened of somebody's shards, crops and own adapters; an index holds counts alone."""
    assert _opened is not None
    home = str(run.client(name))
    return [path for path in _opened if path.startswith(home) and not path.endswith((".json", "/shards"))]


def again(run: RunFolder) -> None:
    small.train(run)
    assert "bela" not in run.rounds("fedavg").read_text()


def pooled(run: RunFolder) -> None:
    small.train(run, "centralized")


def own(run: RunFolder) -> None:
    small.train(run, "local")
    small.evaluate(run, "local")


def short(run: RunFolder) -> None:
    with pytest.raises(PrivFedTalkError, match="bela has not agreed to training: revoked on"):
        short_clients(run, list(small.CLIENTS), small.TRAINING)


def by_hand(run: RunFolder) -> None:
    for client in ("bela", "pooled"):
        with pytest.raises(PrivFedTalkError, match="bela has not agreed to training"):
            ClientStorage(run, "centralized", small.CLIENTS).samples(client, "train")


def public(run: RunFolder) -> None:
    assert len(list(stream_public(run))) == 1 and len(read_public_frames(run).frames) == small.FRAMES
    assert len(read_public_validation(run)) == len(read_federation_validation(run, run)) == 1


def talk(run: RunFolder) -> None:
    with pytest.raises(PrivFedTalkError, match="bela has not agreed to be generated: revoked on"):
        open_talker(run, small.TRAINING, PreparationSettings(), "fedavg", "bela", rendered=True)
    denoiser_of = open_model(run, "fedavg_personal", small.TRAINING, 0).denoiser
    assert denoiser_of is not None
    with pytest.raises(PrivFedTalkError, match="bela has not agreed to be generated"):
        denoiser_of("bela")


def study(run: RunFolder) -> None:
    """The run as the rendered world of a study; a world derived from it, too."""
    home = run.root.parent / "study"
    world, derived = world_folder(home, 0, CENTRE), Population(clips=1)
    world.root.parent.mkdir(parents=True)
    world.root.symlink_to(run.root)
    public_folder(home, 0).root.symlink_to(run.root)
    make_world(home, 0, derived, StudySettings(training=small.TRAINING))
    assert not world_folder(home, 0, derived).client("bela").exists()
    settings = StudySettings(training=small.TRAINING, personal_steps=1, curve_rounds=(), draws=1)
    for setup in (
        Setup(seed=0, arm=Arm(method="fedavg", personal=True), measured="generated"),
        Setup(seed=0, arm=Arm(method="fedavg"), world=derived),
    ):
        point = point_of(home, setup, settings)
        make_point(point)
        told = point.path.read_text()
        assert '"anna"' in told and '"bela"' not in told and '"ugo"' not in told


def evaluation(run: RunFolder) -> None:
    small.evaluate(run)
    shown = {path.name.partition("_")[0] for path in run.root.glob("evaluation/*/videos/*.mp4")}
    assert shown == {"anna", "cleo", "dora", "uma"}


def reported(run: RunFolder) -> None:
    for method in ("fedavg", "backbone"):
        small.evaluate(run, method)
    small.report(run)
    assert not list(run.report.glob("videos/bela*")) and '"left_out"' in run.results.read_text()


def previews(run: RunFolder) -> None:
    assert thumbnail_sheet(run, 20, 1, size=8).shape[0] == 8 * 6
    assert [row.client for row in report_clients(run).clients if row.cluster_tv is not None] == ["anna", "cleo", "dora"]
    save_coded_faces(run)
    assert coded_faces(run).exists()


@pytest.mark.parametrize(
    "read",
    [
        *(again, pooled, own, short, by_hand, public, talk, study, evaluation, reported, previews),
        *(small.infer_membership, small.invert, small.spend_a_night),
    ],
)
def test_who_revoked_is_read_by_nobody(run: RunFolder, read: Callable[[RunFolder], None]) -> None:
    read(run)
    assert {name: opened_of(run, name) for name in GONE} == {name: [] for name in GONE}
