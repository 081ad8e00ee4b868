"""Cores that a container pays for: the two versions of control groups, as Linux documents their files."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from common.workers.cores import available_cores, quota


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n", encoding="utf-8")


@pytest.fixture
def member(tmp_path: Path) -> Path:
    file = tmp_path / "membership"
    file.write_text("0::/kube/pod/container\n", encoding="utf-8")
    return file


def test_without_groups_the_schedule_counts(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert quota(nowhere, nowhere) == math.inf
    assert available_cores(nowhere, nowhere) == len(os.sched_getaffinity(0))


def test_the_smallest_quota_of_all_groups_above(tmp_path: Path, member: Path) -> None:
    groups = tmp_path / "groups"
    write(groups / "kube/pod/container", cpu__max="max 100000")
    write(groups / "kube/pod", cpu__max="350000 100000")
    write(groups / "kube", cpu__max="6400000 100000")
    assert quota(groups, member) == 3.5


def test_inside_a_container_its_group_is_the_root(tmp_path: Path, member: Path) -> None:
    write(tmp_path / "groups", cpu__max="50000 100000")
    assert quota(tmp_path / "groups", member) == 0.5
    assert available_cores(tmp_path / "groups", member) == 1, "half a core is one process"


def test_version_1(tmp_path: Path) -> None:
    member = tmp_path / "membership"
    member.write_text("5:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n", encoding="utf-8")
    write(tmp_path / "groups/cpu,cpuacct/docker/a", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    assert quota(tmp_path / "groups", member) == 2
    write(tmp_path / "groups/cpu,cpuacct/docker/a", cpu__cfs_quota_us="-1")
    assert quota(tmp_path / "groups", member) == math.inf


@pytest.mark.parametrize("text", ["", "max", "1 0", "many 100000", "1 2 3"])
def test_a_file_that_says_something_else_sets_no_bound(tmp_path: Path, member: Path, text: str) -> None:
    write(tmp_path / "groups", cpu__max=text)
    assert quota(tmp_path / "groups", member) == math.inf
