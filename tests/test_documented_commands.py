"""What the documents tell people to type runs, word for word, in a copy of the project with a small run.

Each command of a document is either run here, in the order in which a reader would type it, or stands in `ELSEWHERE`
with the reason why not. A command that is in neither list fails the first test.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.conftest import FIXTURES
from tests.test_documents import ALL, ROOT, RUNNABLE

PLACEHOLDERS = {"RUN": "mine", "FILE": "talk.mp4", "CLIENT": "c0003"}
SMALL = [
    "studio.public_speakers=6",
    "studio.clients=4",
    "studio.client_clips=3",
    "studio.unseen=2",
    "preparation.faces.tracker=truth",
    "training.vae.steps=10",
    "training.pretraining.steps=10",
    "training.federation.rounds=1",
    "training.federation.personalisation_steps=1",
    "workers=1",
]
WITH_A_RUN = (
    "privfedtalk clients mine",
    "privfedtalk consent show mine",
    'privfedtalk consent grant mine c0003 --who "Ada Lovelace"',
    "privfedtalk generate --reference data/demo/clients/u0000/crops/00001.mp4 "
    "--speech data/demo/clients/u0001/crops/00001.mp4 --out talk.mp4",
    "privfedtalk generate --reference face.jpg --speech talk.wav --out talk.mp4",
    "privfedtalk generate mine --reference face.jpg --speech talk.mp3 --adapter c0003 --seed 4 --steps 8 "
    "--out talk.mp4",
    "privfedtalk verify talk.mp4",
    "privfedtalk adapter export mine --out shared",
    "privfedtalk adapter import mine shared --as theirs",
    "privfedtalk privacy report mine",
    "privfedtalk tables demo",
    "privfedtalk tables mine",
    "privfedtalk report mine",
    "privfedtalk train mine",
    "privfedtalk evaluate mine",
    "privfedtalk train mine --method scaffold --method local",
    "privfedtalk consent revoke mine c0003",
    "dagster job execute -m pipelines.definitions -j nightly",
    "dagster asset materialize -m pipelines.definitions --select night",
    "privfedtalk privacy audit mine",
    "privfedtalk privacy membership mine --shadows 8",
    "privfedtalk privacy inversion mine",
    'privfedtalk evaluate mine --set "evaluation.instruments=[flow,light_asd]"',
)
ALONE = (
    "privfedtalk weights check",
    "dagster instance migrate",
    "privfedtalk plan --profile paper",
    "privfedtalk prepare real --corpus folder --root clips --vae taef2",
    "privfedtalk studio --speakers 12 --clips 4 --out corpora/twelve",
)
"""These need no run: `test_documented_commands_alone.py` runs them, so that two processes share the commands."""
HERE = (*WITH_A_RUN, *ALONE)
ELSEWHERE = {
    r"privfedtalk prepare .*--corpus (lrs3|hdtf|mix)": "needs a corpus under a licence; tests/preparation/corpora",
    r"privfedtalk (clients|train|evaluate) (lrs3|sd15)": "needs a corpus under a licence",
    r"privfedtalk weights fetch": "downloads; tests/common/weights/test_downloads.py has a server of its own",
    r"privfedtalk --install-completion": "writes into the shell's own files",
    r"privfedtalk demo": "half an hour; the small run here goes through the same jobs",
    r"privfedtalk adapter inspect$": "names no folder; tests/pipelines/cli/test_adapter.py",
    r"privfedtalk prepare --consent": "leaves the corpus out; tests/pipelines/cli/test_consent.py",
    r"docker compose": "needs a Docker daemon; tests/deploy/test_compose.py starts it where there is one",
    r"dagster(-webserver|-daemon| dev| code-server)": "never ends; started in tests/ui, deploy, test_nightly_tick",
    r"dagster job launch": "leaves its run behind; `job execute` runs the same here",
    r"make (setup|format|lock|test|test-all|test-ui)": "the development loop itself",
    r"make (demo|paper|faces|study|results)|dvc repro": "half an hour and more; test_stages.py",
    r"make mutants": "a quarter of an hour; tests/benchmarks/test_mutants.py",
    r"dvc (metrics|plots)": "compare a commit's `make paper` with a finished one",
}
TIMES = 600


def as_run(command: str) -> str:
    return " ".join(PLACEHOLDERS.get(word, word) for word in command.split())


def test_every_documented_command_is_run_or_its_reason_is_given() -> None:
    left = []
    run_here = [*HERE, *RUNNABLE]
    for document, command, whole in ALL:
        known = as_run(command) in run_here or any(re.match(pattern, command) for pattern in ELSEWHERE)
        # A mention inside a sentence may leave out the words with which the command stands elsewhere.
        bare = re.sub(r" …$", "", as_run(command))
        mentioned = not whole and any(each.startswith(bare) or _same_options(bare, each) for each in run_here)
        if not known and not mentioned:
            left.append(f"{document}: {command}")
    assert not left


def test_nothing_is_listed_that_no_document_names() -> None:
    written = [command for _, command, _ in ALL]
    assert [command for command in HERE if command not in map(as_run, written)] == []
    assert [pattern for pattern in ELSEWHERE if not any(re.match(pattern, command) for command in written)] == []


def _same_options(mention: str, command: str) -> bool:
    """Whether all words of a mention stand in a command of the same name."""
    words = shlex.split(command)
    return shlex.split(mention)[:3] == words[:3] and set(shlex.split(mention)) <= set(words)


@dataclass(frozen=True)
class Copy:
    """A copy of the project's files, where commands may write what they like."""

    folder: Path
    environment: dict[str, str]

    def run(self, command: str) -> str:
        tool, *words = shlex.split(command)
        start = [sys.executable, "-c", "from pipelines.cli import app; app()"]
        begin = start if tool == "privfedtalk" else [str(Path(sys.executable).with_name(tool))]
        done = subprocess.run(
            [*begin, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=TIMES
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


def copied(folder: Path) -> Copy:
    """A copy of the project's files in `folder`."""
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    own = {"PYTHONPATH": str(folder), "DAGSTER_HOME": str(folder), "PRIVFEDTALK_SIGNING": str(folder / "signing")}
    weights = {"PRIVFEDTALK_WEIGHTS": str(FIXTURES / "weights")} if (FIXTURES / "weights").exists() else {}
    return Copy(folder, {**os.environ, **own, **weights})


def run_each(project: Copy, commands: Iterable[str], subtests: pytest.Subtests) -> None:
    """Run commands in their order; each that fails is named."""
    for command in commands:
        if re.search(r"light_asd|taef2", command) and not FIXTURES.exists():
            continue  # shared/fixtures is not beside the project
        with subtests.test(command):
            project.run(command)
            if "--out" in command:
                words = shlex.split(command)
                assert (project.folder / words[words.index("--out") + 1]).exists()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """The project with a small run of rendered people, `mine`, the same as `demo`, and the files that commands name."""
    copy = copied(tmp_path_factory.mktemp("typed") / "project")
    copy.run("privfedtalk demo mine --profile small " + " ".join(f"--set {setting}" for setting in SMALL))
    shutil.copytree(copy.folder / "data" / "mine", copy.folder / "data" / "demo")
    _write_inputs(copy.folder)
    yield copy
    shutil.rmtree(copy.folder)


def _write_inputs(folder: Path) -> None:
    """A face and its speech from the run's own crops."""
    from preparation.crops.crop import load_crop

    metadata = sorted((folder / "data/mine/clients").glob("c*/crops/**/*.json"))[0]
    crop = load_crop(metadata.parent, metadata.stem)
    Image.fromarray(next(iter(crop.frames()))).save(folder / "face.jpg", quality=95)
    sound = np.asarray(crop.audio, np.int16)
    with wave.open(str(folder / "talk.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(sound.tobytes())
    with av.open(str(folder / "talk.mp3"), "w") as container:
        stream = container.add_stream("mp3", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound[None], format="s16p", layout="mono")
        frame.rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


@pytest.mark.slow(minutes=9)
def test_the_documented_commands_run(project: Copy, subtests: pytest.Subtests) -> None:
    """One test, since a command may need what an earlier one made."""
    run_each(project, WITH_A_RUN, subtests)
