"""The picture of a federation's rounds shows what is in the log, rounds without a sum included."""

from __future__ import annotations

import numpy as np

from evaluation.figures.rounds import round_curves


def line(number: int, applied: bool = True) -> dict:
    return {
        "round": number,
        "clients": ["a", "b"],
        "survivors": 2 if applied else 0,
        "outcome": "applied" if applied else "aborted",
        "public_validation_loss": 1 / number,
        "within_clip": 0.5 if applied else None,
        "score_mean": 0.6 if applied else None,
        "epsilon_release": None,
        "epsilon_server": None,
        "simulation": {"losses": {"denoising": 0.4, "tdc": 0.1, "total": 0.5}} if applied else {},
    }


def test_each_curve_has_the_logs_values() -> None:
    figure = round_curves([line(1), line(2, applied=False), line(3)])
    public, losses, shares, epsilon = figure.axes
    assert np.asarray(public.lines[0].get_ydata()).tolist() == [1, 1 / 2, 1 / 3]
    assert np.asarray(public.collections[0].get_offsets()).tolist() == [[2, 0.5]]
    assert {drawn.get_label(): np.asarray(drawn.get_xdata()).tolist() for drawn in losses.lines} == {
        "denoising": [1, 3],
        "tdc": [1, 3],
    }
    assert np.asarray(shares.lines[0].get_ydata()).tolist() == [1, 0, 1]
    assert [text.get_text() for text in epsilon.texts] == ["no noise, no epsilon"]
