"""What is read to validate with."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.folders import RunFolder
from preparation.clients.roles import Client, Role, save_clients
from preparation.shards.store import write_shards
from tests.training.small_federation import CLIENTS, sample_for
from training.learning.public import read_federation_validation


@pytest.mark.parametrize("role", ["public", "volunteer"])
def test_validation_hears_all_people_that_are_held_out(tmp_path: Path, role: Role) -> None:
    """The first 24 clips of a corpus with many clips a person would all be of one."""
    run, speakers = RunFolder(tmp_path), CLIENTS[:3]
    for name in speakers:
        write_shards(run.client(name), [sample_for(name, number, "validation") for number in range(5)])
    save_clients(
        {
            name: Client(role, name, {"train": [], "validation": [f"{name}/{n}" for n in range(5)], "test": []})
            for name in speakers
        },
        run.clients_table,
    )

    def heard(most_clips: int) -> list[str]:
        return [clip.clip_id.partition("/")[0] for clip in read_federation_validation(run, run, most_clips)]

    assert heard(6) == [name for name in speakers for _ in range(2)]
    assert len(heard(7)) == 7 and set(heard(7)) == set(speakers)
    assert len(heard(24)) == 15
