"""Schedulers and networks of the diffusers library, in and out.

    schedule, plan = from_scheduler(scheduler, steps=20)  # ours, from a diffusers scheduler
    D = denoiser(scheduler, unet)  # its network, for gf.diffusion.sampling.sample(D, shape, plan, n)
    net = from_unet2d(unet)  # weights of a UNet2DModel in ours, and back: to_unet2d, save_unet2d
    pipe.scheduler = GenfastScheduler.from_scheduler(pipe.scheduler)  # our kernels in an existing pipeline

State, timesteps and sigmas are those of the scheduler itself: its float32 tables are what a model was trained on.
"""

from .plans import denoiser, from_scheduler
from .unet import from_unet2d, save_unet2d, to_unet2d

__all__ = ["GenfastScheduler", "denoiser", "from_scheduler", "from_unet2d", "save_unet2d", "to_unet2d"]


def __getattr__(name):
    """GenfastScheduler, of classes of theirs: the rest needs no diffusers, such as a folder of weights."""
    if name != "GenfastScheduler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .scheduler import GenfastScheduler
    except ImportError as error:
        raise ImportError("GenfastScheduler needs the diffusers library: pip install 'genfast[diffusers]'") from error
    return GenfastScheduler
