"""What every asset body is given: the run's folder, the settings of all floors, and how to run a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from assets.stage.code import code_version
from assets.stage.graph import stage_name, stages_before
from assets.stage.stages import Stage, read_record, stage
from common.folders import RunFolder
from common.settings import Settings
from evaluation.nightly.settings import NightlySettings
from evaluation.settings import EvaluationSettings
from preparation.corpora.studio.settings import StudioSettings
from preparation.settings import CorpusKind, CorpusPart, PreparationSettings
from training.settings import TrainingSettings

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True)
class HdtfSources:
    """What HDTF's clips are cut from: a folder of source videos and one of tables."""

    videos: Path
    tables: Path


@dataclass(frozen=True)
class Run:
    """One run, as the assets see it. `corpus_root` is the folder of the clips, rendered, cut or found.

    `keep` skips stages whose inputs have not changed: the command line resumes that way, while a click
    on "Materialize" always does the work. `gates` says whether a model that loses to a gate, or a missed acceptance
    criterion, fails the run; above the share `quarantine_rate` of clips left out a check warns.
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
        """Whether the studio renders the corpus for this run, into the run's own folder."""
        return self.corpus_kind is CorpusKind.STUDIO and self.corpus_root == self.folder.corpus

    def stage(
        self,
        asset: dg.AssetsDefinition,
        make: Callable[[], object],
        *,
        settings: Sequence[Settings | str | int],
        outputs: Callable[[], Iterable[Path]],
        method: str = "",
        versions: Mapping[str, str] | None = None,
        parts: Sequence[str] | None = None,
    ) -> Stage:
        """Run an asset's stage, timed and recorded: `make` writes the `outputs`. `keep` skips an unchanged one.

        The seed, the `settings`, the outputs of the assets that this one depends on in Dagster, and the code of `make`
        with all that it uses decide the result. `method` is the stage's method, if the asset has a stage for each;
        `parts` are the buckets that are made, if not all. `versions` (name → version) are given for assets of which
        only a part is read, or which have no stage.
        """
        versions = versions or {}
        inputs = self.inputs(asset, make, settings=settings, method=method, versions=versions)
        read = [name for before, name in stages_before(asset, method) if before not in versions]
        name = stage_name(asset.key.path[-1], method)
        with stage(self.folder, name, inputs=inputs, outputs=outputs, keep=self.keep, parts=parts, after=read) as made:
            if made.due:
                make()
        return made

    def inputs(
        self,
        asset: dg.AssetsDefinition,
        make: Callable[..., object],
        *,
        settings: Sequence[Settings | str | int],
        method: str = "",
        versions: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Fingerprints of all that decides a stage's result; arguments are those of `stage`."""
        versions, before = versions or {}, stages_before(asset, method)
        assert versions.keys() <= {name for name, _ in before}, f"{asset.key} depends on no {sorted(versions)}"
        own = [item.fingerprint() if isinstance(item, Settings) else str(item) for item in settings]
        upstream = [versions[read] if read in versions else self.version_of(name) for read, name in before]
        return [str(self.seed), *own, *upstream, code_version(make)]

    def version_of(self, name: str) -> str:
        """The content version that a finished stage recorded, or "absent"."""
        record = read_record(self.folder, name)
        return record.version if record else "absent"
