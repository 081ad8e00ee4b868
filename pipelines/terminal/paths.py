"""Checks of the files and folders that commands are given: before the work, not after hours of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from common.errors import PrivFedTalkError
from common.files import partial_of


def full_path(path: str | Path) -> Path:
    """The absolute path, `~` taken for the home folder where there is one; a link by what it points to."""
    path = Path(path)
    with contextlib.suppress(RuntimeError):  # nobody's home: a name that begins with ~
        path = path.expanduser()
    try:
        return path.resolve()
    except RuntimeError as error:
        raise PrivFedTalkError(f"{path} is a link that leads back to itself", "mend the link") from error


def folder_of_run(run: str) -> Path:
    """The folder of a run as it was typed: a name is a folder in `data`, text with a slash is a path."""
    from pipelines.configuration.tree import PROJECT

    folder = full_path(run) if "/" in run or run in (".", "..") else PROJECT / "data" / run
    if not run or not folder.name:
        raise PrivFedTalkError(f"'{run}' is no run", "name one in data/, or its folder")
    return folder


def readable_file(path: Path, what: str) -> Path:
    """The full path of a file that can be read; an error names it as the `what`: "list", "clip"."""
    full = full_path(path)
    try:
        with full.open("rb") as file:
            file.read(1)
    except IsADirectoryError as error:
        raise PrivFedTalkError(f"the {what} {path} is a folder", "name a file") from error
    except OSError as error:
        raise PrivFedTalkError(f"the {what} {path} cannot be read: {error.strerror}", "name another") from error
    return full


def readable_folder(path: Path, what: str) -> Path:
    """The full path of a folder whose entries can be listed."""
    full = full_path(path)
    try:
        with os.scandir(full):
            return full
    except OSError as error:
        raise PrivFedTalkError(f"the {what} {path} cannot be read: {error.strerror}", "name another folder") from error


def writable_file(path: Path, inputs: Iterable[Path] = (), option: str = "--out") -> Path:
    """The full path of a file that can be written and is none of the inputs, by whatever name or link."""
    full = full_path(path)
    for given in inputs:
        if full.exists() and given.exists() and full.samefile(given):
            raise PrivFedTalkError(
                f"{option} {path} is the input {given}, which would be lost", f"choose another {option}"
            )
    if full.is_dir():
        raise PrivFedTalkError(f"{option} {path} is a folder", f"name a file in it, or choose another {option}")
    if full.exists() and not full.is_file():
        raise PrivFedTalkError(f"{option} {path} is no ordinary file", f"choose another {option}")
    _try_writing(full, path, option)
    return full


def writable_folder(path: Path, option: str = "--out") -> Path:
    """The full path of a folder that files can be written to, or that can be made."""
    full = full_path(path)
    if full.exists() and not full.is_dir():
        raise PrivFedTalkError(f"{option} {path} is a file, not a folder", f"choose another {option}")
    _try_writing(full / "file", path, option)
    _try_writing(full, path, option)  # the folder itself is first written under another name beside it
    return full


def _try_writing(full: Path, typed: Path, option: str) -> None:
    """Write an empty file beside the future one, and remove it together with any folder that was made for it."""
    made = []
    try:
        for above in reversed([*_absent(full.parent)]):
            above.mkdir()
            made.append(above)
        partial = partial_of(full, "unsigned.partial")  # the longest temporary name that is used
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise PrivFedTalkError(
            f"{option} {typed} cannot be written: {error.strerror}", f"choose another {option}, or mend that"
        ) from error
    finally:
        for empty in reversed(made):
            empty.rmdir()


def _absent(folder: Path) -> Iterator[Path]:
    while not folder.exists():
        yield folder
        folder = folder.parent
