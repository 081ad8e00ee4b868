"""Where a run keeps what it makes: the one place that knows file names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.parquet"
QUARANTINE = "quarantine.parquet"
PEOPLE = "people.json"
CLIENTS = "clients.json"
IDENTITIES = "identities.json"
CONFIGURATION = "configuration.yaml"
RESULTS = "results.json"
SHARD_INDEX = "index.json"
"""The index of one client's shards."""
NETWORK_WEIGHTS = "model.safetensors"
"""The weights of an autoencoder, a ruler or a backbone, in a folder of `models/`."""
CURVE = "curve.json"
"""The losses of the backbone's pretraining."""

# A method's federation.
ROUNDS = "rounds.jsonl"
LEDGER = "ledger.jsonl"
PARTICIPATION = "participation.json"
PARTICIPANTS = "participants.json"
FEDERATION = "federation.json"
"""The federation's name and coins, in its `checkpoint/`."""
MEMORY = "memory.json"
"""How a worker's steps were cut to fit its memory."""
PRIVACY = "privacy.json"
PRIVACY_TEXT = "privacy.md"

# An adapter's folder, as PEFT has it, and the record beside it.
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_RECORD = "privfedtalk.json"

# A method's evaluation, by day and by night.
METRICS = "metrics.parquet"
VALIDATION_LOSS = "validation_loss.json"
INSTRUMENTS = "instruments.json"
PANEL = "panel.json"
"""The clips that every nightly evaluation measures."""
PAGE = "index.html"

# What attacks found.
AUDIT = "audit.json"
MEMBERSHIP = "membership.json"
INVERSION = "inversion.json"
INVERSION_SHEET = "inversion.png"
INVERSION_FACES = "faces.png"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, `data/<run>`; every path of the pipeline is a property or method here."""

    root: Path

    def lock(self, name: str) -> Path:
        """The lock file of a stage, or of a command on the run; see `common.locks`."""
        return self.root / ".locks" / f"{name.replace('/', '-')}.lock"

    @property
    def command_lock(self) -> Path:
        """Held by a command from its first stage to its last."""
        return self.lock("command")

    @property
    def corpus(self) -> Path:
        return self.root / "corpus"

    @property
    def manifest(self) -> Path:
        return self.root / MANIFEST

    @property
    def quarantine(self) -> Path:
        return self.root / QUARANTINE

    @property
    def people_table(self) -> Path:
        return self.root / PEOPLE

    @property
    def clients_table(self) -> Path:
        return self.root / CLIENTS

    @property
    def client_report(self) -> Path:
        return self.root / "clients_report" / CLIENTS

    @property
    def identities(self) -> Path:
        return self.root / IDENTITIES

    @property
    def speech_network(self) -> Path:
        """Which pretrained network described the sound; absent with log-mel."""
        return self.root / "speech_network.json"

    def client(self, client: str) -> Path:
        return self.root / "clients" / client

    def consent(self, client: str) -> Path:
        """The client's consent record, beside the client's own data."""
        return self.client(client) / "consent.json"

    def client_ledger(self, client: str) -> Path:
        """The client's own ledger: what its clips were used for, in this run and in earlier ones."""
        return self.client(client) / LEDGER

    def crops(self, client: str) -> Path:
        return self.client(client) / "crops"

    def crops_of(self, clip_id: str) -> Path:
        """The folder of a clip's crop: that of the person it came from, whichever client it was dealt to."""
        return self.crops(clip_id.rpartition("/")[0])

    def shards(self, client: str) -> Path:
        return self.client(client) / "shards"

    def client_method(self, client: str, method: str) -> Path:
        """What a client keeps for itself under a method: its state between rounds and its own adapter."""
        return self.client(client) / "methods" / method

    def client_adapter(self, client: str, method: str) -> Path:
        return self.client_method(client, method) / "adapter"

    def model(self, name: str) -> Path:
        return self.root / "models" / name

    def federation(self, method: str) -> Path:
        return self.root / "federation" / method

    def adapter(self, method: str) -> Path:
        return self.federation(method) / "adapter"

    @property
    def trained_methods(self) -> list[str]:
        """The methods of which there is an adapter, by name."""
        return sorted(path.parents[1].name for path in self.root.glob(f"federation/*/adapter/{ADAPTER_WEIGHTS}"))

    def imported(self, name: str) -> Path:
        """An adapter that came from elsewhere."""
        return self.root / "imported" / name

    def attack(self, name: str, method: str) -> Path:
        """The results of an attack on a method's clients."""
        return self.root / "attacks" / name / method

    @property
    def ledger(self) -> Path:
        """The coordinator's ledger of all that federations of this run have opened; entries are never removed."""
        return self.root / "coordinator" / LEDGER

    def participation(self, method: str) -> Path:
        """How often each client took part. For the coordinator alone: the counts reveal the secret cohort draws."""
        return self.federation(method) / PARTICIPATION

    def participants(self, method: str) -> Path:
        return self.federation(method) / PARTICIPANTS

    def privacy(self, method: str) -> Path:
        """The privacy report as JSON; its text lies beside it."""
        return self.federation(method) / PRIVACY

    def rounds(self, method: str) -> Path:
        return self.federation(method) / ROUNDS

    def evaluation(self, method: str) -> Path:
        return self.root / "evaluation" / method

    def metrics(self, method: str) -> Path:
        """The metric rows of a method's clips."""
        return self.evaluation(method) / METRICS

    @property
    def nightly(self) -> Path:
        """A folder for each night, named by its date, and the panel of clips that all nights share."""
        return self.root / "nightly"

    @property
    def features(self) -> Path:
        """Features of true clips by frozen networks, keyed by content; every method is measured against the same."""
        return self.root / "evaluation" / ".features"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def page(self) -> Path:
        return self.report / PAGE

    @property
    def results(self) -> Path:
        return self.root / RESULTS
