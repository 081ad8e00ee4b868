"""Workers on this machine: one persistent process for each device or core.

A worker takes the next client as soon as it is free, so a slow client holds nobody up inside a round.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Sequence
from multiprocessing import connection, get_context
from types import TracebackType

from training.execution.engine import died_too_often
from training.execution.shared_vectors import Block, bytes_of
from training.execution.trainer import Job, Order
from training.execution.worker import Begin, Done, Failed, Room, Take, restored, serve, vectors_of, without_vectors
from training.federation.client.training import LocalUpdate

# A server that has loaded the libraries, and nothing else, is forked for each worker: started anew, a worker would
# spend ten seconds on them. A fork of this process itself would inherit its threads.
FORKED = get_context("forkserver")
FORKED.set_forkserver_preload(["torch", "peft", "diffusers"])
# Libraries ask for GPUs while they load, and whoever has asked cannot use CUDA in a fork: these spend the ten seconds.
STARTED_ANEW = get_context("spawn")


class LocalPool:
    """Worker processes, each on the device of its place in `devices`; as many are started as there is work for."""

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
            # Whoever is still at work answers a question that nobody asks any more, and may write a client's state.
            for worker in self._workers:
                if worker.client is not None:
                    worker.kill()
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
                assert asked is not None, "an answer without a question"
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
        """A new process in the place of one that died at `client`."""
        worker.kill()
        deaths[client] += 1
        how = f"exit code {worker.exit_code}, {worker.device}"
        if deaths[client] > self._restarts:
            raise died_too_often(client, order, deaths[client], how)
        sys.stderr.write(f"{order.name}: the worker of client {client} died ({how}); another one takes the client\n")
        self._workers[self._workers.index(worker)] = _Worker(worker.device)

    def close(self) -> None:
        """End the workers; they are idle, unless something went wrong."""
        for worker in self._workers:
            worker.close()
        self._workers = []

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Sent:
    """An order whose vectors lie in shared memory, ready to go to any client."""

    def __init__(self, order: Order, message: Take) -> None:
        self.order, self._message = order, message

    def to(self, client: str) -> Take:
        return Take(client, self._message.order, self._message.held)


class _Worker:
    """One process, seen from the one who gives it work."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.client: str | None = None
        self._job: Job | None = None
        self._block: Block | None = None
        context = FORKED if device == "cpu" else STARTED_ANEW
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, device, dict(os.environ)), daemon=True)
        self._process.start()
        theirs.close()  # held by the worker alone, so that its end is the end of the pipe

    def give(self, job: Job, message: Take) -> bool:
        """Let the worker begin with a client; False where it is dead."""
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
        """Read one message: whether the client is finished, and what it sends; an error of its work is raised."""
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
        return self._process.exitcode

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        self._process.kill()
        self._end()

    def close(self) -> None:
        """Let the process end by itself, as it does when its pipe is closed."""
        self.connection.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
        self._end()

    def _end(self) -> None:
        self._process.join()
        self.connection.close()
        if self._block is not None:
            self._block.close()
            self._block = None
