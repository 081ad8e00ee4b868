"""Sections of `benchmarks/gpu` about pictures: generation end to end, the autoencoder, the metrics' networks."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.subjects import Subject, build_subject, clip_features, inception, lpips_net, sd_vae, taef2
from training.generation.frames import Generator
from training.model.compute import speed_up
from training.settings import ComputeSettings, GenerationSettings

REAL_TIME_FPS = 25


def generation(bench: Bench) -> None:
    """Frames a second from speech to pictures at the full size, and its parts; 25 is real time."""
    vae, sizes = sd_vae(bench.sizes).to(bench.device), bench.sizes
    vaes = {"sd-vae": vae, **({"taef2": t.to(bench.device)} if (t := taef2()) is not None else {})}
    for kind in ("sd15", "base"):
        subject = build_subject(kind, sizes, bench.device)

        def clip(steps: int, decoder: str = "sd-vae", subject: Subject = subject, **compute: Any) -> dict[str, Any]:
            speed_up(subject.backbone, ComputeSettings(**compute))
            latent_channels = vaes[decoder].latent_channels
            sampled = Generator(subject.backbone, vaes["sd-vae"], GenerationSettings(steps=steps), 0.5)
            reference, speech = clip_features(sizes, bench.device)
            drawn: list[torch.Tensor] = []

            def sample() -> None:
                drawn[:] = [sampled.latents(reference, speech, 0)]

            took = bench.seconds(sample, 1.0)
            latents = drawn[0][:, :1].expand(-1, latent_channels, -1, -1) if latent_channels != 4 else drawn[0]
            decoding = bench.seconds(lambda: vaes[decoder].decode_latents(latents), 0.5)
            fps = sizes.frames / (took + decoding)
            return {
                "frames": sizes.frames,
                "sampling_fps": sizes.frames / took,
                "decoding_fps": sizes.frames / decoding,
                "fps": fps,
                "times_real_time": fps / REAL_TIME_FPS,
            }

        fast = {"channels_last": True, "frozen_bfloat16": True}
        variants: list[dict[str, Any]] = [{"steps": 4}, *({"steps": steps, **fast} for steps in (4, 8, 50))]
        variants += [{"steps": 4, "decoder": name, **fast} for name in vaes if name != "sd-vae"]
        bench.try_each(f"generation_{kind}", variants, clip)


def vae(bench: Bench) -> None:
    """Frames a second through the autoencoder, from and to pictures in host memory."""
    autoencoder = sd_vae(bench.sizes).to(bench.device)
    pictures = torch.randint(0, 256, (bench.sizes.frames // 2, bench.sizes.pixels, bench.sizes.pixels, 3))
    frames = pictures.to(torch.uint8).numpy()

    def coded(pixels_a_batch: int, channels_last: bool = False) -> dict[str, Any]:
        autoencoder.pixels_a_batch = pixels_a_batch
        layout = torch.channels_last if channels_last else torch.contiguous_format
        autoencoder.to(memory_format=layout)  # type: ignore[call-overload]
        latents = torch.from_numpy(autoencoder.encode_frames(frames))
        there = bench.seconds(lambda: autoencoder.encode_frames(frames), 0.5)
        peak = bench.peak_gb(lambda: autoencoder.encode_frames(frames))
        back = bench.seconds(lambda: autoencoder.decode_latents(latents), 0.5)
        return {"encode_fps": len(frames) / there, "decode_fps": len(frames) / back, "encode_peak_gb": peak}

    variants: list[dict[str, Any]] = [{"pixels_a_batch": 2**power} for power in (18, 20, 22)]
    bench.try_each("vae", [*variants, {"pixels_a_batch": 2**22, "channels_last": True}], coded)


def metrics(bench: Bench) -> None:
    """Frames a second through the networks of the distribution metrics."""
    count = bench.sizes.frames // 2
    pictures = torch.randint(0, 256, (count, 3, bench.sizes.pixels, bench.sizes.pixels), dtype=torch.uint8)

    @torch.inference_mode()
    def run(network: str) -> dict[str, Any]:
        if network == "inception":
            model = inception().to(bench.device)
            seconds = bench.seconds(lambda: model(pictures.to(bench.device))[0].cpu(), 0.5)
        else:
            model = lpips_net(network.removeprefix("lpips_")).to(bench.device)

            def distances() -> None:
                there = pictures.to(bench.device).float() / 127.5 - 1
                model(there, there.flip(0)).cpu()

            seconds = bench.seconds(distances, 0.5)
        return {"fps": count / seconds}

    bench.try_each("metrics", [{"network": name} for name in ("inception", "lpips_alex", "lpips_vgg")], run)
