"""The registry of pretrained networks: each file's name, source, licence and sha256.

Files are looked for in the folder named by PRIVFEDTALK_WEIGHTS, or without that variable in a shared folder beside the
project, then in the user's cache. Damaged copies circulate, so a file is accepted only with the registered sha256.
Where none is registered, a person must accept the first copy: its sha256 is then stored in `trusted.json` beside it,
and every later copy must match it (see `common.weights.downloads`).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from common.errors import CorruptFileError, MissingWeightError, PrivFedTalkError

ENVIRONMENT_VARIABLE = "PRIVFEDTALK_WEIGHTS"
BESIDE_THE_PROJECT = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "weights"


@dataclass(frozen=True)
class Weight:
    """One pretrained file; `source` is repository@commit:path or an address, `licence` that repository's. `bytes` is
    None where the size is not known, `sha256` where no published one was found."""

    file: str
    bytes: int | None
    sha256: str | None
    source: str
    licence: str
    what: str


REGISTRY: dict[str, Weight] = {
    "face_landmarker": Weight(
        file="face_landmarker.task",
        bytes=3758596,
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        source=(
            "Zejun-Yang/AniPortrait@7f6593fd971c95b65f603c15ef8ce2c3fc7f5404:"
            "src/utils/mp_models/face_landmarker_v2_with_blendshapes.task"
        ),
        licence="Apache-2.0",
        what="MediaPipe Face Landmarker, float16, 478 points",
    ),
    "mobilefacenet": Weight(
        file="mobilefacenet.pt",
        bytes=4135271,
        sha256="90a00ba1d8b0b688af3deb731ed53dca582e6106805d1bc3cfdef55f570493f4",
        source="foamliu/MobileFaceNet@a6cc9032a659b615f477833e1a70b5e7931bcccc:weights/mobilefacenet.pt",
        licence="Apache-2.0 (trained on refined MS-Celeb-1M)",
        what="MobileFaceNet face embedder, 112x112 RGB to 128-d",
    ),
    "mobilefacenet_onnx": Weight(
        file="MobileFaceNet.onnx",
        bytes=3985710,
        sha256="8cba0c9041fefd5a8bcc74b5756856a4fdc7fd4a4b3b330a1adb436ca39c7c8e",
        source="luisabreu99/Facegate@b62011e375ae84bd1987d3fba7b98c87a93a8fd6:models/MobileFaceNet.onnx",
        licence="MIT (the weights are those of mobilefacenet.pt)",
        what="MobileFaceNet face embedder for onnxruntime, 112x112 RGB to 128-d",
    ),
    "taef2_encoder": Weight(
        file="taef2_encoder.pth",
        bytes=2704692,
        sha256="10a4e1021e89d7551eaf161352da8dbd0b1aa83872ae28b150c1df1ce2f147b6",
        source="madebyollin/taesd@5cccb12dc72074a4be35680c3b108548a7c69978:taef2_encoder.pth",
        licence="MIT",
        what="tiny encoder into FLUX.2's latent space, 8x down, 32 channels",
    ),
    "taef2_decoder": Weight(
        file="taef2_decoder.pth",
        bytes=2704756,
        sha256="0a44a31e1ae59eb9dbf9359d24942fd3ef5928162c1800d97a28c61d51be0ab5",
        source="madebyollin/taesd@5cccb12dc72074a4be35680c3b108548a7c69978:taef2_decoder.pth",
        licence="MIT",
        what="tiny decoder from FLUX.2's latent space",
    ),
    "blazeface": Weight(
        file="blazeface.pth",
        bytes=420224,
        sha256="54ecff653feaaaf1f7d44b6aff28fd2fc50e483a4e847563b6dd261369c43ba4",
        source="hollance/BlazeFace-PyTorch@852bfd8e3d44ed6775761105bdcead4ef389a538:blazeface.pth",
        licence="Apache-2.0",
        what="BlazeFace face detector for near faces, 128x128 RGB",
    ),
    "blazeface_anchors": Weight(
        file="blazeface_anchors.npy",
        bytes=28800,
        sha256="a10bb2fb93ab54ca426d6c750bfc3aad685028a16dcf231357d03694f261fd95",
        source="hollance/BlazeFace-PyTorch@852bfd8e3d44ed6775761105bdcead4ef389a538:anchors.npy",
        licence="Apache-2.0",
        what="the anchors of blazeface.pth",
    ),
    # This file was never available here: the sha256 is the one that several public projects pin for this address, and
    # it begins with the ten digits that the file's name promises.
    "2dfan4": Weight(
        file="2DFAN4-11f355bf06.pth.tar",
        bytes=None,
        sha256="11f355bf0693120222f5955ce3f9dc8fb5763ebb30a47d7906e509490d32e4aa",
        source="https://www.adrianbulat.com/downloads/python-fan/2DFAN4-11f355bf06.pth.tar",
        licence="BSD-3-Clause (that of face-alignment, which fetches it)",
        what="2DFAN-4 face alignment network, 256x256 RGB to 68 heat maps",
    ),
    "light_asd": Weight(
        file="lightasd_pretrain_AVA_CVPR.model",
        bytes=4175289,
        sha256="d44bc3ea7baa8e0946fa3921311714a630ed8b90a1928fab0dbe30d918909317",
        source="Junhua-Liao/Light-ASD@ed38c232de5efe0261dbd68627c0ade7cdfe14eb:weight/pretrain_AVA_CVPR.model",
        licence="MIT (trained on AVA-ActiveSpeaker)",
        what="Light-ASD active-speaker network, 112x112 grey faces and MFCC to a speaking logit per frame",
    ),
    # Never available here: a dozen public projects pin this sha256 and size for the file of InsightFace's buffalo_l.
    "arcface_r50": Weight(
        file="w600k_r50.onnx",
        bytes=174383860,
        sha256="4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
        source=(
            "https://huggingface.co/public-data/insightface/resolve/33c1063c49c785b7652d3fd529f86fa4f149392b/"
            "models/buffalo_l/w600k_r50.onnx"
        ),
        licence="InsightFace's models: non-commercial research only (trained on WebFace600K)",
        what="ArcFace ResNet-50 face embedder of InsightFace's buffalo_l for onnxruntime, 112x112 RGB to 512-d",
    ),
    # The rest was never available here either. Each sha256 and size is what several public projects pin for this very
    # file; those of torchvision and torch-fidelity begin with the digits that the file's name promises.
    "lpips_alex": Weight(
        file="alexnet-owt-7be5be79.pth",
        bytes=244408911,
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        source="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        licence="BSD-3-Clause (torchvision; trained on ImageNet)",
        what="AlexNet, the backbone of LPIPS (alex)",
    ),
    "lpips_squeeze": Weight(
        file="squeezenet1_1-b8a52dc0.pth",
        bytes=None,
        sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        source="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        licence="BSD-3-Clause (torchvision; trained on ImageNet)",
        what="SqueezeNet 1.1, the backbone of LPIPS (squeeze)",
    ),
    "lpips_vgg": Weight(
        file="vgg16-397923af.pth",
        bytes=553433881,
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        source="https://download.pytorch.org/models/vgg16-397923af.pth",
        licence="BSD-3-Clause (torchvision; trained on ImageNet)",
        what="VGG-16, the backbone of LPIPS (vgg)",
    ),
    "inception": Weight(
        file="weights-inception-2015-12-05-6726825d.pth",
        bytes=95628359,
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        source=(
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
            "weights-inception-2015-12-05-6726825d.pth"
        ),
        licence="Apache-2.0 (converted from TensorFlow's of 2015-12-05)",
        what="Inception for FID and KID, 299x299 RGB to 2048-d, as torch-fidelity uses it",
    ),
    "i3d": Weight(
        file="i3d_torchscript.pt",
        bytes=51235320,
        sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        source="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
        licence="none stated (StyleGAN-V's copy of DeepMind's I3D, Apache-2.0; trained on Kinetics-400)",
        what="I3D for FVD, clips of 224x224 RGB to 400-d, TorchScript",
    ),
    "syncnet": Weight(
        file="syncnet_v2.model",
        bytes=54573114,
        sha256="961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
        source="https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
        licence="MIT (that of syncnet_python, which fetches it)",
        what="SyncNet for LSE-D and LSE-C, five frames of 224x224 BGR and 0.2 s of MFCC to 1024-d each",
    ),
    "syncnet_example": Weight(
        file="example.avi",
        bytes=None,
        sha256=None,
        source="https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/example.avi",
        licence="none stated (the SyncNet authors' example; third-party video: for tests only)",
        what="the clip on which SyncNet's authors print offset 3, distance 5.353, confidence 10.021",
    ),
}

TRUSTED = "trusted.json"
"""The file in a folder of weights that holds the sha256 of files that a person accepted, by file name."""


def _cache() -> Path:
    """The user's cache folder; for a user without a home, as in containers, one in the system's temporary folder."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"privfedtalk-{os.getuid()}"


def folders() -> list[Path]:
    """Where weights are looked for, in this order."""
    cache = _cache() / "privfedtalk" / "weights"
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return [Path(named).expanduser(), cache]
    return [BESIDE_THE_PROJECT, cache] if BESIDE_THE_PROJECT.is_dir() else [cache]


def find(name: str) -> Path:
    """The verified file of a registered network, or an error that says how to get it."""
    if name not in REGISTRY:
        raise PrivFedTalkError(
            f"no pretrained network is called {name!r}", remedy=f"choose one of {', '.join(sorted(REGISTRY))}"
        )
    weight = REGISTRY[name]
    for folder in folders():
        path = folder / weight.file
        if path.is_file():
            found, expected = sha256_of(path), weight.sha256 or trusted(folder).get(weight.file)
            if expected is None:
                raise CorruptFileError(
                    f"{path} cannot be verified: no sha256 of {weight.file} is registered, and none was accepted",
                    remedy=f"where its origin is sure, `privfedtalk weights fetch {name} --trust --into {folder}`",
                )
            if found != expected:
                raise CorruptFileError(
                    f"{path} is not {weight.what}: its sha256 is {found}, not {expected}",
                    remedy=f"delete it, then `privfedtalk weights fetch {name}` (from {weight.source})",
                )
            return path
    looked = " and ".join(str(folder) for folder in folders())
    raise MissingWeightError(
        f"{weight.file} ({weight.what}) is not in {looked}",
        remedy=(
            f"`privfedtalk weights fetch {name}`; or get {weight.source} (sha256 {weight.sha256 or 'unknown'}) and "
            f"either copy it to {folders()[-1]}/{weight.file} "
            f"or `export {ENVIRONMENT_VARIABLE}=<the folder that holds {weight.file}>`"
        ),
    )


def find_all(names: Iterable[str]) -> list[Path]:
    """As `find`, for several networks; one error names all missing ones, so that they can be fetched at once."""
    found: list[Path] = []
    absent: list[MissingWeightError] = []
    for name in names:
        try:
            found.append(find(name))
        except MissingWeightError as error:
            absent.append(error)
    if absent:
        remedies = "; ".join(error.remedy for error in absent)
        raise MissingWeightError("; ".join(error.reason for error in absent), remedies)
    return found


def find_optional(name: str) -> Path | None:
    """As `find`, but None where the file is absent; a damaged file is still an error, not an absence."""
    try:
        return find(name)
    except MissingWeightError:
        return None


def trusted(folder: Path) -> dict[str, str]:
    """The sha256 of files in `folder` that a person accepted, by file name."""
    path = folder / TRUSTED
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def sha256_of(path: Path) -> str:
    """A file's sha256, computed once per process and file version."""
    return _sha256(path, path.stat().st_size, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, _size: int, _modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
