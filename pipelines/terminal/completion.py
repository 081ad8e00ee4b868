"""Completions for the shell: names that are known without a run, or by looking into data/."""

from __future__ import annotations


def profiles() -> list[str]:
    """The profiles that come with the project."""
    from pipelines.configuration import tree as configuration

    return configuration.profiles()


def runs() -> list[str]:
    """The runs in data/ that remember their configuration."""
    from pipelines.configuration.tree import PROJECT, remembered

    return sorted(folder.name for folder in (PROJECT / "data").glob("*/") if remembered(folder).exists())


def methods() -> list[str]:
    """Every method that can be trained."""
    from training.federation.methods import METHODS

    return list(METHODS)


def weights() -> list[str]:
    """Every registered network."""
    from common.weights.registry import REGISTRY

    return list(REGISTRY)
