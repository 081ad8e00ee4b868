"""The frozen networks: against their references, and what is said when one is missing."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import CorruptFileError, MissingWeightError, PrivFedTalkError
from common.folders import RunFolder
from common.weights import registry as weights
from preparation.faces.alignment import template
from preparation.faces.embedder import ARCFACE_TEMPLATE, FaceEmbedder, align_five_points
from preparation.settings import CropSettings
from training.model.frozen import lpips_network
from training.model.frozen.loading import open_pixel_terms
from training.model.frozen.lpips_network import Lpips
from training.model.frozen.mobilefacenet import DEVIATION, MEAN, MobileFaceNetEmbedder, face_grid
from training.model.frozen.rulers import IdentityRuler, OpeningRuler
from training.model.frozen.terms import Decoded, IdentityTerm, LpipsTerm, MouthMotionTerm, RulerFeaturesTerm
from training.settings import IdentityTermSettings, ObjectiveSettings, PerceptualTermSettings, SyncTermSettings


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders for weights and torch's cache in which there is nothing."""
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def embedder(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> MobileFaceNetEmbedder:
    monkeypatch.setenv(weights.ENVIRONMENT_VARIABLE, str(weights_dir))
    return MobileFaceNetEmbedder.load()


@pytest.fixture
def run_with_rulers(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    IdentityRuler(width=8, embedding=8).frozen().save(run.model("rulers") / "identity")
    OpeningRuler(width=8).frozen().save(run.model("rulers") / "opening")
    return run


def blobs(seed: int, size: int) -> np.ndarray:
    """Smooth colours, uint8 [size, size, 3]."""
    import cv2

    return cv2.resize(
        np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8), (size, size), interpolation=cv2.INTER_CUBIC
    )


def test_mobilefacenet_equals_its_onnx_export(embedder: MobileFaceNetEmbedder) -> None:
    faces = np.stack([blobs(seed, 112) for seed in range(4)])
    normalised = (torch.from_numpy(faces).permute(0, 3, 1, 2) / 255 - embedder.mean) / embedder.deviation
    ours = nn.functional.normalize(embedder.network(normalised), dim=1).numpy()
    np.testing.assert_allclose(ours, FaceEmbedder().embed_faces(list(faces)), atol=5e-6)
    assert tuple(embedder.mean.flatten().tolist()) == pytest.approx(MEAN)
    assert tuple(embedder.deviation.flatten().tolist()) == pytest.approx(DEVIATION)


def test_embedder_passes_gradients_to_the_crop(embedder: MobileFaceNetEmbedder) -> None:
    crops = torch.rand(2, 3, 128, 128, requires_grad=True)
    embedder(crops)[:, 0].sum().backward()
    assert crops.grad is not None and crops.grad.isfinite().all() and crops.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in embedder.parameters())


@pytest.mark.parametrize("crop", [CropSettings(), CropSettings(size=256, eye_height=0.35, eye_distance=0.4)])
def test_the_fixed_warp_puts_eyes_where_arcface_has_them(crop: CropSettings) -> None:
    grid = face_grid(crop)[0]
    stable = template(crop)
    eyes = np.stack([stable[[0, 1]].mean(0), stable[[2, 3]].mean(0)]) / crop.size
    for eye, (x, y) in zip(eyes, ARCFACE_TEMPLATE[:2], strict=True):
        place = (grid[round(y), round(x)].numpy() + 1) / 2
        np.testing.assert_allclose(place, eye, atol=0.015)
    mouth = (grid[92, 56].numpy() + 1) / 2
    np.testing.assert_allclose(mouth, [0.5, crop.eye_height + 1.13 * crop.eye_distance], atol=0.015)


def test_fixed_warp_sees_the_person_that_five_points_see(
    embedder: MobileFaceNetEmbedder, fixtures_dir: Path, tmp_path: Path
) -> None:
    """On a real clip's own crops, no landmark needed."""
    from preparation.crops.crop import load_crop
    from preparation.pipeline import prepare_clients, register_corpus
    from preparation.settings import CorpusSettings, PreparationSettings, SpeakerRule

    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "speaker.mpg").symlink_to(fixtures_dir / "clips" / "grid" / "pwij3p.mpg")
    settings = PreparationSettings(corpus=CorpusSettings(speaker_rule=SpeakerRule.STEM))
    run = RunFolder(tmp_path / "run")
    register_corpus("folder", corpus, run, settings)
    prepare_clients(run, corpus, settings)
    folder = next(iter(run.root.glob("**/crops")))
    crop = load_crop(folder, next(iter(folder.glob("*.mp4"))).stem)
    chosen = list(range(0, len(crop.landmarks), 15))
    frames = [frame for number, frame in enumerate(crop.frames()) if number in chosen]
    aligned = [align_five_points(frame, crop.landmarks[n]) for frame, n in zip(frames, chosen, strict=True)]
    expected = FaceEmbedder().embed_faces(aligned)
    ours = embedder(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) / 255).numpy()
    cosines = (ours * expected).sum(1)
    assert cosines.min() > 0.8


def save_random_backbone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """torchvision's SqueezeNet with random weights, in the file format and under the kind of name it is fetched by."""
    from torchvision.models import squeezenet1_1

    torch.manual_seed(3)
    network = squeezenet1_1(weights=None).eval()
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / "partial.pth")
    digest = hashlib.sha256((folder / "partial.pth").read_bytes()).hexdigest()
    file = f"squeezenet1_1-{digest[:8]}.pth"
    (folder / "partial.pth").rename(folder / file)
    monkeypatch.setitem(lpips_network.BACKBONES, "squeeze", file)
    return network


@pytest.mark.parametrize("place", ["weights", "hub/checkpoints"])
def test_lpips_is_the_published_formula_on_the_backbone_in_the_file(
    no_weights: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    network = save_random_backbone(no_weights / place, monkeypatch)
    lpips = Lpips("squeeze")
    x, y = torch.rand(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found = lpips(x, y)

    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    package = find_spec("lpips")
    assert package is not None and package.origin is not None
    shipped = Path(package.origin).parent / "weights" / "v0.1" / "squeeze.pth"
    heads = torch.load(shipped, map_location="cpu", weights_only=True)
    features = network.features
    assert isinstance(features, nn.Sequential)

    def layers(pictures: torch.Tensor) -> list[torch.Tensor]:
        hidden, kept = (2 * pictures - 1 - shift.view(3, 1, 1)) / scale.view(3, 1, 1), []
        for number, layer in enumerate(features):
            hidden = layer(hidden)
            if number in (1, 4, 7, 9, 10, 11, 12):
                kept.append(hidden / (hidden.norm(dim=1, keepdim=True) + 1e-10))
        return kept

    expected = torch.zeros(3)
    for number, (one, other) in enumerate(zip(layers(x), layers(y), strict=True)):
        expected += nn.functional.conv2d((one - other) ** 2, heads[f"lin{number}.model.1.weight"]).mean((1, 2, 3))
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)
    assert found.min() > 0
    assert lpips(x, x).abs().max() == 0

    latents = torch.rand(2, 2, 3, 64, 64, requires_grad=True)
    term = LpipsTerm(lpips)
    term(Decoded(lambda frames: frames, latents, latents.detach().flip(0), latents[:, 0].detach())).sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0


def test_a_damaged_backbone_is_refused(no_weights: Path) -> None:
    file = no_weights / "weights" / lpips_network.BACKBONES["alex"]
    file.parent.mkdir()
    file.write_bytes(b"half a download")
    with pytest.raises(CorruptFileError, match="7be5be79"):
        Lpips("alex")


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (ObjectiveSettings(identity=IdentityTermSettings(network="mobilefacenet")), ("identity", "mobilefacenet.pt")),
        (
            ObjectiveSettings(perceptual=PerceptualTermSettings(network="lpips_vgg")),
            ("perceptual", "vgg16-397923af.pth"),
        ),
        (
            ObjectiveSettings(sync=SyncTermSettings(network="light_asd")),
            ("sync", "lightasd_pretrain_AVA_CVPR.model"),
        ),
    ],
)
def test_a_missing_weight_names_term_file_and_remedy(
    no_weights: Path, settings: ObjectiveSettings, names: tuple[str, str]
) -> None:
    term, file = names
    with pytest.raises(MissingWeightError, match=f"the {term} term") as caught:
        open_pixel_terms(RunFolder(no_weights), settings, lambda latents: latents)
    assert file in caught.value.reason
    assert file in caught.value.remedy
    assert f"training.objective.{term}.network=none" in caught.value.remedy


@pytest.mark.parametrize("term", ["identity", "perceptual", "sync"])
def test_a_missing_ruler_names_the_term(tmp_path: Path, term: str) -> None:
    settings = ObjectiveSettings.model_validate({term: {"network": "ruler"}})
    with pytest.raises(PrivFedTalkError, match=f"the {term} term") as caught:
        open_pixel_terms(RunFolder(tmp_path), settings, lambda latents: latents)
    assert "train the rulers first" in caught.value.remedy


def test_what_is_off_is_not_looked_for_and_what_is_on_is_what_was_asked_for(run_with_rulers: RunFolder) -> None:
    assert open_pixel_terms(RunFolder(Path("nowhere")), ObjectiveSettings(), lambda latents: latents) is None
    settings = ObjectiveSettings(
        identity=IdentityTermSettings(network="ruler"),
        perceptual=PerceptualTermSettings(network="ruler"),
        sync=SyncTermSettings(network="ruler"),
    )
    opened = open_pixel_terms(run_with_rulers, settings, lambda latents: latents)
    assert opened is not None
    kinds = {name: type(term) for name, term in opened.terms.items()}
    assert kinds == {"identity": IdentityTerm, "perceptual": RulerFeaturesTerm, "sync": MouthMotionTerm}
    assert not any(p.requires_grad for term in opened.terms.values() for p in term.parameters())
