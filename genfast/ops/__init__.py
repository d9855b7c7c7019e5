"""The compiled ops: each one function with its equation, a plain-torch reference, a fake kernel and its gradients."""

from .denoising_loss import denoising_loss, denoising_loss_reference
from .diffuse import diffuse, diffuse_reference
from .dispatch import dense, in_layout_of
from .dot import dot, dot_reference
from .dynamic_threshold import dynamic_threshold, dynamic_threshold_reference
from .langevin import langevin, langevin_reference
from .noise import Purpose, make_key, noise_reference, normal, stream, uniform
from .runge_kutta import runge_kutta, runge_kutta_reference
from .step import SLOTS, StepTable, step, step_reference

__all__ = [
    "SLOTS", "Purpose", "StepTable", "denoising_loss", "denoising_loss_reference", "dense", "diffuse",
    "diffuse_reference", "dot", "dot_reference", "dynamic_threshold", "dynamic_threshold_reference", "in_layout_of",
    "langevin", "langevin_reference", "make_key", "noise_reference", "normal", "runge_kutta", "runge_kutta_reference",
    "step", "step_reference", "stream", "uniform",
]  # fmt: skip
