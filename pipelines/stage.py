"""One stage of `dvc.yaml`: DVC says when, and nobody needs to call this by hand.

    .venv/bin/python -m pipelines.stage federation --seed 0 --method fedavg

Where `pipelines.paper_run` keeps a process with all libraries loaded, the stage is a fork of that.
"""

from __future__ import annotations

import os
import sys

from pipelines import warm

if __name__ == "__main__":
    if os.environ.get(warm.SOCKET):
        raise SystemExit(warm.ask(os.environ[warm.SOCKET], sys.argv[1:]))
    from pipelines.paper_stages import main  # seconds of libraries

    raise SystemExit(main(sys.argv[1:]))
