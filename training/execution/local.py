"""Workers on this machine: one persistent process for each device or core.

A worker takes the next client as soon as it is free, so a slow client delays no other client of the round.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from multiprocessing import connection, get_context
from types import TracebackType

from common.workers.processes import end_processes, start_shielded
from training.execution.engine import died_too_often
from training.execution.shared_vectors import Block, bytes_of
from training.execution.trainer import Job, Order
from training.execution.worker import Begin, Done, Failed, Room, Take, restored, serve, vectors_of, without_vectors
from training.federation.client.training import LocalUpdate

# Workers are forked from a server process that has only loaded the libraries, since loading them takes ten seconds.
# A fork of this process itself would inherit its threads.
FORKED = get_context("forkserver")
FORKED.set_forkserver_preload(["torch", "peft", "diffusers"])
# Libraries query the GPUs while they load, and CUDA cannot be used in a fork of a process that has done so. GPU workers
# are therefore started anew, and each spends the ten seconds.
STARTED_ANEW = get_context("spawn")


class LocalPool:
    """Worker processes, one for each entry of `devices`; no more are started than there are clients."""

    def __init__(self, devices: Sequence[str], restarts: int = 2) -> None:
        self._devices, self._restarts = tuple(devices), restarts
        self._workers: list[_Worker] = []

    @property
    def device(self) -> str:
        """See `Pool.device`."""
        return self._devices[0]

    def run(self, job: Job, order: Order, clients: Sequence[str]) -> dict[str, LocalUpdate]:
        """See `Pool.run`."""
        for device in self._devices[len(self._workers) : len(clients)]:
            self._workers.append(_Worker(device))
        sent = vectors_of(order)
        block = Block(bytes_of(sent))
        try:
            return self._run(job, _Sent(order, Take("", without_vectors(order), block.write(sent))), clients)
        except BaseException:
            # A worker that is still busy would send an answer that nobody reads, and may write a client's state.
            end(worker for worker in self._workers if worker.client is not None)
            self._workers = [worker for worker in self._workers if worker.client is None]
            raise
        finally:
            block.close()

    def _run(self, job: Job, sent: _Sent, clients: Sequence[str]) -> dict[str, LocalUpdate]:
        waiting = deque(clients)
        answers: dict[str, LocalUpdate | None] = {}
        deaths: Counter[str] = Counter()
        while len(answers) < len(clients):
            for worker in list(self._workers):
                if waiting and worker.client is None:
                    client = waiting.popleft()
                    if not worker.give(job, sent.to(client)):
                        self._replace(worker, client, sent.order, deaths)
                        waiting.appendleft(client)
            busy = {worker.connection: worker for worker in self._workers if worker.client is not None}
            for ready in connection.wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                asked = worker.client
                assert asked is not None, "an answer from an idle worker"
                try:
                    finished, update = worker.answer()
                except (EOFError, ConnectionError):
                    self._replace(worker, asked, sent.order, deaths)
                    waiting.appendleft(asked)
                    continue
                if finished:
                    answers[asked] = update
        return {client: update for client in clients if (update := answers[client]) is not None}

    def _replace(self, worker: _Worker, client: str, order: Order, deaths: Counter[str]) -> None:
        """Start a new process in the place of a worker that died while it had `client`."""
        worker.kill()
        deaths[client] += 1
        how = f"exit code {worker.exit_code}, {worker.device}"
        if deaths[client] > self._restarts:
            raise died_too_often(client, order, deaths[client], how)
        sys.stderr.write(f"{order.name}: the worker of client {client} died ({how}); another one takes the client\n")
        self._workers[self._workers.index(worker)] = _Worker(worker.device)

    def close(self) -> None:
        """End all workers."""
        workers, self._workers = self._workers, []
        try:
            for worker in workers:
                worker.close()
        except BaseException:  # interrupted while it waits for them
            end(workers)
            raise

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Sent:
    """An order whose vectors lie in shared memory, to be sent for any client."""

    def __init__(self, order: Order, message: Take) -> None:
        self.order, self._message = order, message

    def to(self, client: str) -> Take:
        return Take(client, self._message.order, self._message.held)


class _Worker:
    """A worker process, as the coordinating process sees it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.client: str | None = None
        self._job: Job | None = None
        self._block: Block | None = None
        context = FORKED if device == "cpu" else STARTED_ANEW
        self.connection, worker_end = context.Pipe()
        self.process = context.Process(target=serve, args=(worker_end, device, dict(os.environ)), daemon=True)
        start_shielded(self.process)
        worker_end.close()  # only the worker holds this end, so the pipe closes when the worker ends

    def give(self, job: Job, message: Take) -> bool:
        """Send a client to the worker; False if the worker is dead."""
        try:
            if self._job is not job and self._job != job:
                self.connection.send(Begin(job))
                self._job = job
            self.connection.send(message)
        except OSError:
            return False
        self.client = message.client
        return True

    def answer(self) -> tuple[bool, LocalUpdate | None]:
        """Read one message: (whether the client is finished, its update). Raises the error of a failed training."""
        reply = self.connection.recv()
        if isinstance(reply, Room):
            old, self._block = self._block, Block(reply.size)
            if old is not None:
                old.close()
            self.connection.send(self._block.name)
            return False, None
        self.client = None
        if isinstance(reply, Failed):
            reply.error.add_note(f"in a worker on {self.device}:\n{reply.trace}")
            raise reply.error
        assert isinstance(reply, Done), f"a worker said {reply!r}"
        if reply.update is None or reply.held is None:
            return True, None
        assert self._block is not None, "vectors without a block"
        return True, restored(reply.update, self._block.read(reply.held.layout))

    @property
    def exit_code(self) -> int | None:
        return self.process.exitcode

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.release()

    def close(self) -> None:
        """Close the pipe, so that the process ends by itself; kill it after five seconds."""
        self.connection.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
        self.release()

    def release(self) -> None:
        """Free what this process holds for a worker that has ended or is ending."""
        self.process.join()
        self.connection.close()
        if self._block is not None:
            self._block.close()
            self._block = None


def end(workers: Iterable[_Worker]) -> None:
    """End the processes, busy ones too, as soon as they have removed their temporary files."""
    ending = list(workers)
    end_processes(worker.process for worker in ending)
    for worker in ending:
        worker.release()
