"""Gradient inversion of a whole (tiny) run: views through the real protocol, figures, files and the page's card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import PrivFedTalkError
from common.folders import RunFolder
from evaluation.attacks.inversion_figures import Leak, Mean, run_inversion, sentences
from evaluation.attacks.inversion_run import KNOWN, ONE_STEP, InversionSettings
from evaluation.attacks.inversion_views import LEAST_NOISE, NOISY, RAW, SUM, Seen, sums_seen
from evaluation.report.inversion_card import inversion_card
from preparation.clients.consent import read_consent, record_rendered, write_consent
from preparation.clients.roles import Client, Role, save_clients
from preparation.settings import ConsentSettings
from preparation.shards.gate import Gate
from preparation.shards.store import write_shards
from tests.training.small_federation import CLIENTS, sample_for, whole_settings
from tests.training.small_models import small_backbone
from training.adapters.adapter import Adapter
from training.federation.client.training import LocalUpdate
from training.model.autoencoders.small import SmallVae
from training.model.frozen.rulers import IdentityRuler
from training.settings import TrainingSettings, VaeSettings
from training.settings.privacy import PrivacySettings

SMALL = InversionSettings(clients=2, cohort=3, steps=2, guesses=2, guessed_steps=2)
NO_CLIPS: dict[str, list[str]] = {"train": [], "validation": [], "test": []}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Three clients and two public speakers of random clips, and an untrained adapter."""
    run = RunFolder(tmp_path / "run")
    table = {}
    for number, person in enumerate([*CLIENTS, "p0", "p1"]):
        splits = ["train", "train", "validation", "test"]
        samples = [sample_for("c0", 10 * number + i, split) for i, split in enumerate(splits)]
        write_shards(run.client(person), samples)
        role: Role = "client" if person in CLIENTS else "public"
        table[person] = Client(role, person, NO_CLIPS | ({"train": ["some"]} if role == "public" else {}))
    save_clients(table, run.clients_table)
    backbone = small_backbone()
    backbone.save(run.model("backbone"))
    SmallVae(VaeSettings(widths=(8, 16), blocks=1, latent_channels=4)).save(run.model("vae"))
    IdentityRuler(width=8, embedding=8).save(run.model("rulers") / "identity")
    adapter = Adapter(backbone, settings().adapter, 5)
    adapter.save(run.adapter("privfedtalk"), adapter.vector(), {})
    return run


def settings() -> TrainingSettings:
    return whole_settings(noise_multiplier=0.5)


@pytest.mark.slow(minutes=0.1)
def test_every_view_is_attacked_and_set_against_the_mean_face(run: RunFolder) -> None:
    told = run_inversion(run, "privfedtalk", settings(), 5, SMALL)
    folder = run.attack("inversion", "privfedtalk")
    assert told == json.loads((folder / "inversion.json").read_text())
    rows = [leak["row"] for leak in told["leaks"]]
    assert rows == [f"{attack}: {view}" for attack in ("step, known", "step, guessed", "round")
                    for view in ("raw", "sum", "noisy")]  # fmt: skip
    assert told["rows"] == ["truth", "mean face", *rows]
    assert told["baseline"]["gain"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert (told["cohort"], len(told["clients"]), len(told["sentences"])) == (3, 2, 3)
    for leak in told["leaks"]:
        assert leak["psnr"]["mean"] - told["baseline"]["psnr"]["mean"] == pytest.approx(leak["gain"]["mean"])
    with Image.open(folder / "faces.png") as faces:
        assert faces.size == (2 * 64, len(told["rows"]) * 64)
    card = inversion_card(folder)
    assert card is not None and [row.title for row in card.rows[:2]] == ["truth", "mean face"]
    assert len(card.table) == 10 and all(row.picture.startswith("data:image/jpeg") for row in card.rows)
    assert inversion_card(run.root) is None


def test_what_cannot_be_attacked_is_a_clear_message(run: RunFolder) -> None:
    with pytest.raises(PrivFedTalkError, match="fedavg is not trained"):
        run_inversion(run, "fedavg", settings(), 5, SMALL)
    adapter = Adapter(small_backbone(), settings().adapter, 5)
    adapter.save(run.adapter("local"), adapter.vector(), {})
    with pytest.raises(PrivFedTalkError, match="send no updates"):
        run_inversion(run, "local", settings(), 5, SMALL)


def test_what_the_server_sees_is_the_weighed_clipped_sum_and_noise_that_no_seed_takes_away() -> None:
    privacy = PrivacySettings(clip_norm=1.0, noise_multiplier=0.5, n_max=1, gamma=0.0, seeded_noise=3)
    rng = np.random.default_rng(0)
    updates = {name: LocalUpdate(rng.normal(0, 1, 4000).astype(np.float32), 1, 1.0, {}, 0.0) for name in "abc"}
    first, second = (sums_seen(updates, privacy, 0, 1) for _ in range(2))
    clipped = sum(update.delta / np.linalg.norm(update.delta) for update in updates.values())
    np.testing.assert_allclose(first[SUM].vector, clipped, atol=1e-5)
    assert first[SUM].noise_share == LEAST_NOISE
    noise = first[NOISY].vector - clipped
    # Three shares where two are counted on: one of the three may tell the server its own.
    assert np.std(noise) == pytest.approx(0.5 / np.sqrt(0.95) * np.sqrt(3 / 2), rel=0.1)
    assert not np.allclose(first[NOISY].vector, second[NOISY].vector)
    assert first[NOISY].noise_share == pytest.approx(np.linalg.norm(noise) / np.linalg.norm(first[NOISY].vector), 0.1)


def test_without_noise_there_is_no_noisy_view() -> None:
    updates = {name: LocalUpdate(np.ones(8, np.float32), 1, 1.0, {}, 0.0) for name in "ab"}
    assert list(sums_seen(updates, PrivacySettings(mode="none"), 0, 1)) == [SUM]


def test_an_interval_over_clients_is_students() -> None:
    mean = Mean.of(np.array([1.0, 2.0, 3.0]))
    assert mean.mean == 2.0 and mean.high == pytest.approx(2 + 4.3027 / np.sqrt(3), rel=1e-4)


def leak(sees: str, gain: float, searches: int, stalled: int) -> Leak:
    mean = Mean(gain, gain - 1, gain + 1)
    return Leak(ONE_STEP, sees, KNOWN, 0.0, mean, mean, {}, {}, 0, searches, stalled)


def test_a_stalled_search_is_not_compared() -> None:
    (told,) = sentences([leak(RAW, 6.0, 4, 0), leak(SUM, 0.4, 1, 1), leak(NOISY, 0.4, 1, 1)])
    assert "raw update tells something of the face (+6.0 dB" in told
    assert told.count("stalled, from which nothing follows") == 2
    assert "visibly more" not in told and told.endswith("No comparison: a search stalled.")
    (told,) = sentences([leak(RAW, 0.0, 4, 1), leak(NOISY, 0.0, 1, 0)])
    assert "tells nothing for sure" not in told.split(";")[0] and told.endswith("No comparison: a search stalled.")


def test_searches_that_found_a_match_are_compared() -> None:
    (told,) = sentences([leak(RAW, 6.0, 4, 0), leak(NOISY, 0.4, 1, 0)])
    assert told.endswith("The raw update leaks visibly more than what the server sees.")


def test_an_update_that_is_all_noise_is_not_trusted() -> None:
    vector = np.ones(100)
    assert Seen(vector, 1.0).trust == 0.0
    assert Seen(vector, 0.6).trust == pytest.approx(0.8 * 100 / 0.36)


@pytest.mark.slow(minutes=0.1)
def test_only_who_agreed_is_reconstructed_and_shown(run: RunFolder) -> None:
    asked = settings().model_copy(update={"consent": ConsentSettings(required=True)})
    with pytest.raises(PrivFedTalkError, match=r"no client in .* has agreed to training"):
        run_inversion(run, "privfedtalk", asked, 5, SMALL)
    record_rendered(run)
    whole = read_consent(run, "c1")
    assert whole is not None
    only_training = whole.model_copy(update={"scope": ("training",)})
    write_consent(run, "c1", only_training)
    told = run_inversion(run, "privfedtalk", asked, 5, SMALL)
    assert told["clients"] == ["c0", "c2"] and told["cohort"] == 2
    folder, gate = run.attack("inversion", "privfedtalk"), Gate(run, "generation", required=False)
    assert inversion_card(folder, gate) is not None
    write_consent(run, "c0", only_training)
    assert inversion_card(folder, gate) is None  # the page that is made again shows the face no more
    with pytest.raises(
        PrivFedTalkError, match=r"1 of the clients of privfedtalk in .* may be trained on and generated"
    ):
        run_inversion(run, "privfedtalk", asked, 5, SMALL)
    told.pop("asked")  # as attacks that asked nobody were written
    (folder / "inversion.json").write_text(json.dumps(told))
    assert inversion_card(folder) is None
