"""The compiled ops: each one function with its equation, a plain-torch reference, a fake kernel and its gradients.

All of them raise TypeError, naming the argument, for what is no dense tensor where one is wanted.
"""

from .. import _extension  # noqa: F401  (registers the ops, before a module asks for one)
from ..common.keys import make_key
from .activations import ACTIVATIONS
from .average import average, average_reference
from .bias_act import bias_act, bias_act_reference
from .denoising_loss import denoising_loss, denoising_loss_reference
from .diffuse import diffuse, diffuse_reference
from .dispatch import dense, in_fast_layout, in_layout_of
from .dot import dot, dot_reference
from .dropout import dropout, dropout_reference
from .dynamic_threshold import dynamic_threshold, dynamic_threshold_reference
from .glu import geglu, geglu_reference, swiglu, swiglu_reference
from .group_norm_act import group_norm_act, group_norm_act_reference
from .kernel_sums import KernelSums, kernel_sums, kernel_sums_reference
from .langevin import langevin, langevin_reference
from .noise import Purpose, noise_reference, normal, split_stream, stream, uniform
from .norm_modulate import (
    gate_residual_norm_modulate,
    layer_norm_modulate,
    norm_modulate_reference,
    rms_norm_modulate,
)
from .pairwise import (
    Balls,
    Nearest,
    balls,
    balls_reference,
    nearest,
    nearest_reference,
)
from .reparameterize import reparameterize, reparameterize_reference
from .residual import residual, residual_reference
from .runge_kutta import runge_kutta, runge_kutta_reference
from .step import SLOTS, StepTable, step, step_reference
from .time_embedding import (
    gaussian_frequencies,
    geometric_frequencies,
    sinusoidal_frequencies,
    time_embedding,
    time_embedding_reference,
)

__all__ = [
    "ACTIVATIONS", "SLOTS", "Balls", "KernelSums", "Nearest", "Purpose", "StepTable", "average", "average_reference",
    "balls", "balls_reference", "bias_act", "bias_act_reference", "denoising_loss", "denoising_loss_reference", "dense",
    "diffuse", "diffuse_reference", "dot", "dot_reference", "dropout", "dropout_reference", "dynamic_threshold",
    "dynamic_threshold_reference",
    "gate_residual_norm_modulate", "gaussian_frequencies", "geglu", "geglu_reference", "geometric_frequencies",
    "group_norm_act", "group_norm_act_reference", "in_fast_layout", "in_layout_of", "kernel_sums",
    "kernel_sums_reference", "langevin", "langevin_reference", "layer_norm_modulate", "make_key", "nearest",
    "nearest_reference", "noise_reference", "norm_modulate_reference", "normal", "reparameterize",
    "reparameterize_reference", "residual", "residual_reference",
    "rms_norm_modulate", "runge_kutta", "runge_kutta_reference", "sinusoidal_frequencies",
    "split_stream", "step", "step_reference", "stream", "swiglu", "swiglu_reference", "time_embedding",
    "time_embedding_reference", "uniform",
]  # fmt: skip
