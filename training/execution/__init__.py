"""Where clients train: persistent workers that build the models once, on this machine or on a Ray cluster."""

from training.execution.engine import Engine, Pool, PooledEngine, open_pool
from training.execution.local import LocalPool
from training.execution.trainer import Job, open_trainer

__all__ = ["Engine", "Job", "LocalPool", "Pool", "PooledEngine", "open_pool", "open_trainer"]
