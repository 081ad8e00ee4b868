"""Work spread over the cores of this machine: processes that may die, threads that share one network."""

from common.workers.cores import available_cores
from common.workers.processes import Done, end_with_parent, map_processes, portable
from common.workers.threads import map_threads, stop_if_asked

__all__ = [
    "Done",
    "available_cores",
    "end_with_parent",
    "map_processes",
    "map_threads",
    "portable",
    "stop_if_asked",
]
