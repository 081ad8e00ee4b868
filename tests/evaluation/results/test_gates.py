"""A model that only seems to speak, or is no better than noise somewhere, is named with the figure."""

from __future__ import annotations

from evaluation.results.gates import concessions, failures, judge_gates

METHODS = {
    "fedavg": {"psnr": 23.0, "lip_correlation": 0.9, "opening_error": 0.03, "kid": 0.02},
    "backbone": {"psnr": 22.0, "lip_correlation": 0.8, "opening_error": 0.04, "kid": 0.03},
    "copy_reference": {"psnr": 25.0, "lip_correlation": 0.0, "opening_error": 0.07, "kid": 0.001},
    "noise": {"psnr": 9.0, "lip_correlation": 0.0, "opening_error": 0.09, "kid": 0.4, "ssim": 0.1},
}


def test_a_model_that_generates_passes_though_a_still_has_the_better_picture() -> None:
    judged = judge_gates(METHODS)
    assert {row["method"] for row in judged} == {"fedavg", "backbone"}
    assert len(judged) == 2 * (4 + 2)  # psnr, lips and KID against noise, lips against the still; no SSIM of theirs
    assert failures(judged) == []


def test_still_lips_and_noise_are_named() -> None:
    methods = METHODS | {"backbone": {"psnr": 9.0, "lip_correlation": 0.0, "opening_error": 0.08, "kid": 0.5}}
    found = failures(judge_gates(methods))
    assert found == [
        "Frozen backbone does not beat noise on PSNR: 9 against 9",
        "Frozen backbone does not beat noise on lip correlation: 0 against 0",
        "Frozen backbone does not beat noise on KID: 0.5 against 0.4",
        "Frozen backbone does not beat still picture on lip correlation: 0 against 0",
        "Frozen backbone does not beat still picture on opening error: 0.08 against 0.07",
    ]


def test_real_clips_are_judged_by_lips_and_sound() -> None:
    methods = {
        "fedavg": {"light_asd_contrast": 0.1, "lse_c": 5.0, "lip_correlation": None},
        "copy_reference": {"light_asd_contrast": 0.3, "lse_c": 2.0, "lip_correlation": None},
    }
    assert failures(judge_gates(methods)) == [
        "FedAvg does not beat still picture on Light-ASD contrast: 0.1 against 0.3"
    ]
    assert judge_gates({"fedavg": {"psnr": 20.0}}) == []  # without gates nothing is judged


def test_where_a_still_is_nearer_to_the_truth_is_said() -> None:
    near = {"mouth_psnr": 26.0, "mouth_ssim": 0.7, "lip_landmark_distance": 0.03}
    methods = {
        "fedavg": near | {"mouth_psnr": 25.0, "lip_landmark_distance": 0.04},
        "local": near | {"mouth_psnr": 25.5, "mouth_ssim": 0.8},
        "copy_reference": near | {"mouth_ssim": 0.75, "lip_landmark_distance": 0.035},
    }
    assert concessions(methods) == [
        "A still picture is nearer to the truth than every model on mouth PSNR.",
        "A still picture is nearer to the truth than FedAvg on mouth SSIM.",
        "A still picture is nearer to the truth than FedAvg on LMD.",
    ]


def test_noise_about_a_real_reference_is_no_gate_of_likeness() -> None:
    """It is the reference itself, to the run's own ruler and to a network that knows faces."""
    real = {"fedavg": {"identity": 0.97, "face_identity": 0.7, "psnr": 20.0},
            "noise": {"identity": 0.99, "face_identity": 0.8, "psnr": 21.0}}  # fmt: skip
    assert [row["metric"] for row in judge_gates(real)] == ["psnr"]
    rendered = {name: {"lip_correlation": 0.1 if name == "noise" else 0.5, **figures} for name, figures in real.items()}
    assert len(failures(judge_gates(rendered))) == 3
