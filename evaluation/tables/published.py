"""Figures that other papers report, to be shown beside ours: each row with its source, none comparable to ours.

They come from other clips, crops, resolutions and networks, so they say nothing about a method here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One row of a published table; `figures` are named by the keys of `HEADINGS`."""

    method: str
    source: str
    data: str
    figures: dict[str, float]


PAPER = "PrivFedTalk, Table 1"
PAPER_DATA = "LRS3, centre frame, 1000 rounds"
ABLATION = "PrivFedTalk, Table 2"

PUBLISHED = (
    Published("PrivFedTalk", PAPER, PAPER_DATA, {
        "psnr": 7.3395, "ssim": 0.009683, "lpips": 1.3042, "fid": 391.3217, "identity": 0.018287,
        "mean_frame_delta": 0.199548}),
    Published("FedAvg", PAPER, PAPER_DATA, {
        "psnr": 7.3395, "ssim": 0.009683, "lpips": 1.3042, "fid": 391.3345, "identity": 0.018285,
        "mean_frame_delta": 0.199548}),
    Published("FedProx", PAPER, PAPER_DATA, {
        "psnr": 7.3395, "ssim": 0.009683, "lpips": 1.3042, "fid": 391.3342, "identity": 0.018289,
        "mean_frame_delta": 0.199548}),
    Published("Full PrivFedTalk", ABLATION, PAPER_DATA, {
        "lpips": 1.304183, "fid": 391.324, "identity": 0.01828779, "mean_frame_delta": 0.199548637,
        "sync_proxy": 0.083392685}),
    Published("Adapters-only", ABLATION, PAPER_DATA, {
        "lpips": 1.304184, "fid": 391.322, "identity": 0.01828694, "mean_frame_delta": 0.199548656,
        "sync_proxy": 0.083392585}),
    Published("DP-only", ABLATION, PAPER_DATA, {
        "lpips": 1.304182, "fid": 391.320, "identity": 0.01828744, "mean_frame_delta": 0.199548647,
        "sync_proxy": 0.083392678}),
    Published("TDC-only", ABLATION, PAPER_DATA, {
        "lpips": 1.304185, "fid": 391.335, "identity": 0.01828647, "mean_frame_delta": 0.199548647,
        "sync_proxy": 0.083392686}),
    Published("ISFA-only", ABLATION, PAPER_DATA, {
        "lpips": 1.304185, "fid": 391.328, "identity": 0.01828745, "mean_frame_delta": 0.199548660,
        "sync_proxy": 0.083392598}),
)  # fmt: skip

HEADINGS = {
    "psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "fid": "FID", "identity": "Identity",
    "mean_frame_delta": "Jitter (frame delta)", "sync_proxy": "SyncProxy",
}  # fmt: skip
"""The paper's own headings of its figures."""

WHY_NOT = (
    "Not comparable: the published rows come from other clips, crops, networks and training. The paper's own figures "
    "are those of noise (PSNR 7.3, SSIM 0.01, a mean frame delta about thirty times that of real video), which is why "
    "every table here has a row of noise. Its sync proxy is not defined in its text and is therefore not computed here."
)
