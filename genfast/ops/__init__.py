"""The compiled ops: each one function with its equation, a plain-torch reference, a fake kernel and its gradients."""

from .denoising_loss import denoising_loss, denoising_loss_reference
from .diffuse import diffuse, diffuse_reference
from .dispatch import dense, in_layout_of
from .dot import dot, dot_reference
from .noise import Purpose, make_key, noise_reference, normal, stream, uniform
from .step import SLOTS, StepTable, step, step_reference

__all__ = [
    "SLOTS", "Purpose", "StepTable", "denoising_loss", "denoising_loss_reference", "dense", "diffuse",
    "diffuse_reference", "dot", "dot_reference", "in_layout_of", "make_key", "noise_reference", "normal", "step",
    "step_reference", "stream", "uniform",
]  # fmt: skip
