"""Files of the clients: shards (read through the consent gate), states between rounds, and their own adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from safetensors.numpy import load_file, save_file

from common.errors import PrivFedTalkError
from common.files import replacing
from common.folders import RunFolder
from preparation.shards.gate import Gate
from preparation.shards.store import Sample
from training.adapters.membership import POOLED
from training.federation.methods.base import State


@dataclass(frozen=True)
class ClientStorage:
    """The files of a run's clients for one method. With a `pool`, the client `POOLED` has the shards of all members.

    `required`: a client without a consent record may not train. `read_only`: no state is stored after a round; choose
    it to compute a round without changing the run.
    """

    run: RunFolder
    method: str
    pool: tuple[str, ...] = ()
    required: bool = False
    read_only: bool = False

    @property
    def clips(self) -> RunFolder:
        """The run in which the clients' samples lie."""
        return self.run

    @property
    def gate(self) -> Gate:
        """The consent gate through which clips are read for training."""
        return Gate(self.clips, "training", self.required)

    def members(self, client: str) -> Sequence[str]:
        """The people whose samples a client trains on: itself, or all members of the pool."""
        return self.pool if client == POOLED else (client,)

    def shards(self, client: str) -> Sequence[Path]:
        """Folders with a client's samples, for their counts; `samples` reads them."""
        return [self.clips.client(member) for member in self.members(client)]

    def check(self, client: str) -> None:
        """Raise PrivFedTalkError if the client, or a member of the pool, must not be trained on."""
        for member in self.members(client):
            self.gate.check(member)

    def samples(self, client: str, split: str) -> Iterator[Sample]:
        """A client's samples of one split, streamed; raises at once if one of its members forbids training."""
        self.check(client)
        return chain.from_iterable(self.gate.samples(member, split) for member in self.members(client))

    def adapter(self, client: str) -> Path:
        """The folder of the client's own adapter, in PEFT's format."""
        return self.run.client_adapter(client, self.method)

    def load_state(self, client: str, number: int) -> State:
        """The client's state after round `number`; empty for 0, when no round of the client has counted yet."""
        path = self._state(client, number)
        if not number:
            return {}
        if path.exists():
            return load_file(path)
        # A method without client state leaves no file; a method with client state cannot go on without it.
        if not (self._own(client) / "keeps").exists():
            return {}
        raise PrivFedTalkError(
            f"{path} is missing: what client {client} kept after round {number} of {self.method}",
            "train the method anew (--fresh): it cannot go on without the client's state",
        )

    def save_state(self, client: str, number: int, before: int, state: State) -> None:
        """Save the state after round `number`; the state after round `before`, its start, stays in case of a repeat."""
        if self.read_only:
            return
        own = self._own(client)
        if not before:  # any file here is from a lost round, or from a run under other settings
            for old in own.glob("state-*.safetensors"):
                old.unlink()
        if not state:
            return
        own.mkdir(parents=True, exist_ok=True)
        if before and not self._state(client, before).exists():
            # The round `before` counted but left no state (training diverged), so this round began from an empty state.
            with replacing(self._state(client, before)) as partial:
                save_file({}, partial)
        (own / "keeps").touch()
        path = self._state(client, number)
        with replacing(path) as partial:
            save_file(state, partial)
        for old in own.glob("state-*.safetensors"):
            if old.name not in {path.name, self._state(client, before).name}:
                old.unlink()

    def _own(self, client: str) -> Path:
        if client == POOLED:
            return self.run.federation(self.method) / POOLED
        return self.run.client_method(client, self.method)

    def _state(self, client: str, number: int) -> Path:
        return self._own(client) / f"state-{number:05d}.safetensors"
