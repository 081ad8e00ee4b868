"""Where clients train: in this process, or in persistent workers of this machine or of a Ray cluster."""

from training.execution.engine import Pool, PooledEngine
from training.execution.local import LocalPool
from training.execution.pools import open_pool
from training.execution.trainer import Job, open_trainer
from training.federation.engine import Engine

__all__ = ["Engine", "Job", "LocalPool", "Pool", "PooledEngine", "open_pool", "open_trainer"]
