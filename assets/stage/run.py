"""What every asset body is given: the run's folder, the settings of all floors, and how to run a stage."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from assets.stage.stages import Stage, code_version, read_record, stage
from common.folders import RunFolder
from common.settings import Settings
from evaluation.nightly.settings import NightlySettings
from evaluation.settings import EvaluationSettings
from preparation.corpora.studio.settings import StudioSettings
from preparation.settings import CorpusKind, CorpusPart, PreparationSettings
from training.settings import TrainingSettings


@dataclass(frozen=True)
class HdtfSources:
    """What HDTF's clips are cut from: a folder of source videos and one of tables."""

    videos: Path
    tables: Path


@dataclass(frozen=True)
class Run:
    """One run, as the assets see it. `corpus_root` is where the clips lie, rendered, cut or found.

    `keep` leaves out stages whose inputs have not changed: the command line resumes that way, while a click
    on "Materialize" always does the work. `gates` says whether models that lose to a gate, or figures below a bar, fail
    the run; `quarantine_rate` above which share of clips left out a check warns.
    """

    folder: RunFolder
    seed: int
    corpus_kind: CorpusKind
    corpus_root: Path
    studio: StudioSettings
    preparation: PreparationSettings
    training: TrainingSettings
    evaluation: EvaluationSettings
    workers: int
    gates: bool = True
    keep: bool = False
    cut_from: HdtfSources | None = None
    corpus_parts: tuple[CorpusPart, ...] = ()
    nightly: NightlySettings = field(default_factory=NightlySettings)
    quarantine_rate: float = 0.2

    @property
    def renders(self) -> bool:
        """Whether the studio draws the corpus for this run, so that it is made and unmade with it."""
        return self.corpus_kind is CorpusKind.STUDIO and self.corpus_root == self.folder.corpus

    def stage(
        self,
        name: str,
        *,
        settings: Sequence[Settings | str | int],
        after: Sequence[str],
        code: Sequence[str],
        outputs: Callable[[], Iterable[Path]],
        parts: Sequence[str] | None = None,
    ) -> AbstractContextManager[Stage]:
        """A timed, remembered stage, due again when its settings, its code or a stage before it changed.

        `after` names the stages whose results it reads; `code` the floors whose sources it runs;
        `parts` are the buckets that the body works on, where these are not all.
        """
        inputs = self.inputs(settings=settings, after=after, code=code)
        return stage(self.folder, name, inputs=inputs, outputs=outputs, keep=self.keep, parts=parts, after=after)

    def inputs(
        self, *, settings: Sequence[Settings | str | int], after: Sequence[str], code: Sequence[str]
    ) -> list[str]:
        """Fingerprints of all that decides a stage's result: seed, configuration, what it reads, and code."""
        own = [item.fingerprint() if isinstance(item, Settings) else str(item) for item in settings]
        upstream = [self.version_of(before) for before in after]
        return [str(self.seed), *own, *upstream, code_version(*code)]

    def version_of(self, name: str) -> str:
        """The content version a finished stage left, or "absent"."""
        record = read_record(self.folder, name)
        return record.version if record else "absent"


def available_cores() -> int:
    """The cores this process may use: a container's share, not the whole machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
