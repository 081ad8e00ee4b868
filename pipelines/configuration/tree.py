"""The whole configuration of a run: every floor's settings in one tree, read from a profile and overrides."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator, model_validator

from common.errors import PrivFedTalkError
from common.files import replacing
from common.folders import CONFIGURATION
from common.settings import Settings, hides, redacted
from common.text.commands import command
from common.text.foreign import is_invisible, joins
from evaluation.nightly.settings import NightlySettings
from evaluation.settings import EvaluationSettings
from pipelines.configuration.reader import build, flatten, merge, nested, override, read_assignments, read_yaml
from preparation.corpora.studio.settings import StudioSettings
from preparation.settings import CorpusKind, CorpusPart, PreparationSettings
from training.federation.methods import check_names
from training.settings import TrainingSettings

PROJECT = Path(__file__).resolve().parents[2]
PROFILES = PROJECT / "pipelines" / "profiles"
LONGEST_NAME_BYTES = 200
"""Longest name of a run. File systems take 255, and a folder has a longer, temporary name while it is first written."""


class CorpusChoice(Settings):
    """Which clips a run uses. The studio's clips, and those cut by HDTF's tables, are written into the run's folder;
    others are read where they are."""

    kind: CorpusKind = Field(CorpusKind.STUDIO, description="how the corpus's folder is laid out; studio renders one")
    root: Path | None = Field(None, description="where the clips lie, or HDTF's source videos; the studio needs none")
    tables: Path | None = Field(None, description="folder of HDTF's tables; null: the clips are cut already")
    parts: tuple[CorpusPart, ...] = Field(
        (), description="parts of a mix; guests of later parts join clients of the first"
    )

    @model_validator(mode="after")
    def _root_where_needed(self) -> CorpusChoice:
        if self.kind is CorpusKind.MIX:
            if self.root is not None or len(self.parts) < 2:
                raise ValueError("a mix needs two or more corpus.parts, each with its own root, and no corpus.root")
        elif self.parts:
            raise ValueError(f"corpus.parts are a mix's: a corpus of kind {self.kind} has none")
        elif self.kind is not CorpusKind.STUDIO and self.root is None:
            raise ValueError(f"a corpus of kind {self.kind} needs corpus.root, the folder of its clips")
        if self.tables is not None and self.kind is not CorpusKind.HDTF:
            raise ValueError(f"corpus.tables are HDTF's: a corpus of kind {self.kind} has none")
        return self


class Configuration(Settings):
    """One run. Values not named in the profile or an override are the defaults in each floor's code."""

    run: str = Field("demo", description="folder name below `data`")
    seed: int = Field(0, ge=0, description="seed of everything that is drawn, unless a group sets its own")
    data: Path = Field(Path("data"), description="folder of all runs; a relative path starts at the project's root")
    workers: int | None = Field(
        None, ge=1, description="processes that prepare clips or train networks, at most; null: one a core"
    )
    gates: bool = Field(
        True,
        description="whether a run fails if a model does not beat the gates (evaluation/results/gates.py) or, on "
        "rendered people, misses an acceptance criterion (evaluation/results/acceptance.py)",
    )
    quarantine_rate: float = Field(0.2, ge=0, le=1, description="share of clips left out above which a check warns")
    corpus: CorpusChoice = CorpusChoice()
    studio: StudioSettings = StudioSettings()
    preparation: PreparationSettings = PreparationSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    nightly: NightlySettings = NightlySettings()

    @field_validator("run")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if (
            name in ("", ".", "..")
            or "/" in name
            or name != name.strip()
            or any(is_invisible(letter) and not joins(letter) for letter in name)
        ):
            raise ValueError("a run's name is that of one folder: no slash, no line end, no space before or after it")
        if len(os.fsencode(name)) > LONGEST_NAME_BYTES:
            raise ValueError(f"a run's name has at most {LONGEST_NAME_BYTES} bytes")
        return name

    @field_validator("training")
    @classmethod
    def _known_methods(cls, training: TrainingSettings) -> TrainingSettings:
        check_names((*training.methods, *training.components))
        return training

    @model_validator(mode="after")
    def _lender_is_another_run(self) -> Configuration:
        if self.training.public_run is not None and self.training.public_run.resolve() == self.root.resolve():
            raise ValueError("training.public_run is the run itself, which cannot lend itself networks")
        return self

    @field_validator("evaluation")
    @classmethod
    def _known_instruments(cls, evaluation: EvaluationSettings) -> EvaluationSettings:
        if evaluation.instruments:  # the list of them costs half a second to import
            from evaluation.measuring.instruments import check_instruments

            check_instruments(evaluation.instruments)
        return evaluation

    @model_validator(mode="before")
    @classmethod
    def _one_seed(cls, values: Any) -> Any:
        """Give the run's seed to every group that does not set its own."""
        if not isinstance(values, Mapping) or "seed" not in values:
            return values
        seed = {"seed": values["seed"]}
        below = {"studio": seed, "preparation": {"clients": seed, "partition": seed}, "evaluation": seed}
        return merge(below, values)

    @model_validator(mode="after")
    def _no_seeded_noise_on_people(self) -> Configuration:
        if self.corpus.kind is not CorpusKind.STUDIO and self.training.privacy.seeded_noise is not None:
            raise ValueError(
                "training.privacy.seeded_noise is for rendered data only: whoever knows the seed can take the "
                f"noise away again. Set it to null for a corpus of kind {self.corpus.kind}"
            )
        return self

    @property
    def root(self) -> Path:
        """The run's folder; a relative `data` is meant from the project's root, as `dagster dev` sees it."""
        return PROJECT / self.data / self.run


def load(profile: str | Path = "demo", assignments: Iterable[str] = ()) -> Configuration:
    """The configuration of a profile with `a.b=text` on top, as --set takes it."""
    return configure(profile, read_overrides(assignments))


def configure(profile: str | Path, overrides: Mapping[str, Any]) -> Configuration:
    """The configuration of a profile (its name, or the path of a YAML file) with overrides on top."""
    path = profile_path(profile)
    values = override(read_yaml(path, Configuration), overrides)
    # Keys alone: their values may be secrets.
    return build(Configuration, values, source=" with ".join([f"profile {path.stem}", *overrides]))


def read_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """The overrides of a configuration that `a.b=text` mean."""
    return read_assignments(assignments, Configuration)


def profile_path(profile: str | Path) -> Path:
    named = PROFILES / f"{profile}.yaml"
    if named.exists():
        return named
    path = Path(profile)
    if path.suffix in {".yaml", ".yml"} and path.exists():
        return path
    raise PrivFedTalkError(
        f"there is no profile '{profile}'", f"name one of {', '.join(profiles())}, or the path of a YAML file"
    )


def remember(configuration: Configuration) -> None:
    """Write the configuration into the run's folder, so that later commands on the run need not repeat it."""
    # Removal is asked for once; a run must not go on removing by habit.
    corpus = configuration.preparation.corpus.model_copy(update={"forget_absent": False})
    preparation = configuration.preparation.model_copy(update={"corpus": corpus})
    kept = configuration.model_copy(update={"preparation": preparation})
    values = kept.model_dump(mode="json", exclude_defaults=True) | {"run": configuration.run}
    _write_private(values, remembered(configuration.root), f"# {command('train', run=run_name(configuration.root))}\n")


def _write_private(values: Mapping[str, Any], path: Path, head: str) -> None:
    """Write a profile that only its owner can read, because it may hold hidden settings."""
    with replacing(path) as partial:
        partial.touch(mode=0o600)
        partial.write_text(head + yaml.safe_dump(dict(values), sort_keys=False), encoding="utf-8")


def without_hidden(profile: str | Path, overrides: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The same configuration as profile and overrides without hidden settings, for Dagster, which shows them.

    The profile, with the overrides of hidden settings, is written to a file in the run's folder, which takes the place
    of `profile`. Without such overrides, both stay as they are.
    """
    hidden = {key: value for key, value in overrides.items() if hides(Configuration, nested(key.split("."), value))}
    if not hidden:
        return str(profile), dict(overrides)
    values = override(read_yaml(profile_path(profile), Configuration), hidden)
    path = configure(profile, overrides).root / "hidden.yaml"
    _write_private(values, path, "# a profile with settings that are shown nowhere\n")
    return str(path), {key: value for key, value in overrides.items() if key not in hidden}


def check_open(values: Mapping[str, Any], where: str) -> None:
    """Refuse hidden settings where others see them: DVC writes parameters to its lock file, and Dagster shows them."""
    shown = flatten(redacted(Configuration, values))
    for key, value in flatten(values).items():
        if shown.get(key) != value:
            raise PrivFedTalkError(
                f"{where} sets {key}, which must not be shown; DVC and Dagster show what is written there",
                "put it into a profile of your own and name that file as the profile",
            )


def run_name(root: Path) -> str:
    """A run as commands name it: the name of a folder in data/, or the path of any other folder."""
    return root.name if root.parent == PROJECT / "data" and not root.name.startswith("-") else str(root)


def remembered(root: Path) -> Path:
    """Where a run's configuration is kept."""
    return root / CONFIGURATION


def profiles() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))
