"""Run one stage of a `dvc.yaml`. DVC calls this; nobody needs to do so by hand.

.venv/bin/python -m pipelines.paper.stage federation fedavg
.venv/bin/python -m pipelines.paper.stage federation fedavg --of faces
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # spawned processes load this file, too
    from pipelines.paper.stages import main

    raise SystemExit(main(sys.argv[1:]))
