"""What the documents tell people to type before there is a run, in a copy of the project with a few real clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import FIXTURES
from tests.test_documented_commands import ALONE, copied, run_each


@pytest.mark.slow(minutes=3)
def test_the_documented_commands_that_need_no_run(tmp_path: Path, subtests: pytest.Subtests) -> None:
    project = copied(tmp_path / "project")
    if FIXTURES.exists():
        (project.folder / "clips").mkdir()
        for clip in sorted((FIXTURES / "clips").glob("*.mp4"))[::2]:
            (project.folder / "clips" / clip.name).symlink_to(clip)
    run_each(project, ALONE, subtests)
