"""Which code made a file: so that what an older version made is made again, and nothing else."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path


@lru_cache(maxsize=8)
def code_version(*modules: str) -> str:
    """The package's version and eight hex digits of the sources of the named modules, and of all modules of the
    named packages, for instance 0.1.0+3fa94c01."""
    try:
        release = version("privfedtalk")
    except PackageNotFoundError:
        release = "unpackaged"
    digest = hashlib.sha256()
    for module in modules:
        spec = find_spec(module)
        assert spec is not None and spec.origin is not None, f"{module} is a module of this project"
        origin = Path(spec.origin)
        for source in sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]:
            digest.update(source.read_bytes())
    return f"{release}+{digest.hexdigest()[:8]}"
