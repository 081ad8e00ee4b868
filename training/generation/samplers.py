"""Samplers of `diffusers` by name, on the noise schedule that a backbone was trained on."""

from __future__ import annotations

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from training.model.diffusion import TRAIN_STEPS, Process
from training.settings import Sampler


def make_sampler(sampler: Sampler, process: Process, steps: int) -> DDIMScheduler | DPMSolverMultistepScheduler:
    """A sampler set to `steps` steps, for a network trained on `process`.

    ddim   first order (Song et al. 2021).
    dpm++  DPM-Solver++(2M) (Lu et al. 2022): second order, using the previous step; the same cost a step.
    """
    ddim = process.make_scheduler()
    if sampler == "ddim":
        ddim.set_timesteps(steps)
        return ddim
    config = ddim.config
    solver = DPMSolverMultistepScheduler(
        num_train_timesteps=TRAIN_STEPS,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule=config.beta_schedule,
        prediction_type=config.prediction_type,
        rescale_betas_zero_snr=config.rescale_betas_zero_snr,
        timestep_spacing=config.timestep_spacing,
        algorithm_type="dpmsolver++",
        solver_order=2,
        lower_order_final=True,
    )
    solver.set_timesteps(steps)
    return solver
