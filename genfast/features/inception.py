"""Inception-v3 as features, from a user's file: what the name FID stands for.

That file, a .pth, is the one that genfast unpickles: by torch's reader with weights_only=True, which makes tensors and
plain containers, and runs nothing.
"""

import hashlib
import io
import os
import re
from pathlib import Path

import torch

from ..common.checks import require_choice
from ..common.files import as_path, read_tensors
from ..common.state import misfits
from .base import extract, fingerprint, in_chunks, inference
from .inception_v3 import MIXED, Inception, quantize, resize_pytorch_fid, resize_torch_fidelity

RESIZES = {"torch_fidelity": resize_torch_fidelity, "pytorch_fid": resize_pytorch_fid}
VARIABLE = "GENFAST_INCEPTION"
SHA256 = "6726825d"  # the official file's begins so
VERSION = 1  # to be raised with every change of what is computed
URLS = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)
_STEM = (("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"), ("Conv2d_3b_1x1", "Conv2d_4a_3x3"))
_LATE = ("Mixed_7a", "Mixed_7b", "Mixed_7c")
_BLOCKS = (*_STEM, tuple(name for name in MIXED if name not in _LATE), _LATE)  # of pytorch-fid's module
_COUNTER = ".num_batches_tracked"  # which older files lack, and nobody needs
_LAYOUTS = (
    "that of the files of pytorch-fid and torch-fidelity (Conv2d_1a_3x3.conv.weight, ..., fc.bias) and that of "
    "pytorch-fid's module InceptionV3 (blocks.0.0.conv.weight, ...), which has no fc"
)


def inception(path=None, *, mode="torch_fidelity"):
    """`InceptionFeatures` of the weights in a file; nothing is ever downloaded.

    path    a .pth or .safetensors file with the parameter names of pytorch-fid's or torch-fidelity's file, or of
            pytorch-fid's module `InceptionV3`; None for the file that the environment variable GENFAST_INCEPTION names
    mode    whose resize: "torch_fidelity", which is TensorFlow 1's, or "pytorch_fid"; distances differ between the two
    Raises FileNotFoundError saying which file to get if there is none, ValueError if the file cannot be read or holds
    something else, or mode is unknown.
    """
    mode = require_choice("mode", mode, RESIZES)
    path = os.environ.get(VARIABLE) if path is None else as_path("path", path)
    if path is None or not Path(path).is_file():
        said = f"path and {VARIABLE} say nothing" if path is None else f"there is no file {path}"
        raise FileNotFoundError(
            f"path: Inception needs a file of weights, and {said}. Get {URLS[0]} or {URLS[1]}, put "
            f"it anywhere, and pass its path or set {VARIABLE} to it; nothing is downloaded"
        )
    content = Path(path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    net = _network(_read(path, content), path)
    return InceptionFeatures(net, mode, digest)


class InceptionFeatures:
    """Features: the last pooling, (B, 2048), of images x: (B, 1 or 3, H, W), any size, in [-1, 1].

    The images are made 8-bit first, see `quantize`, and resized as `mode` says, on the device where they are.
    sha256    of the file
    verified  whether it begins as the official file's; if not, the name says so, and distances are not to be called FID
    """

    dim = 2048

    def __init__(self, net, mode, sha256):
        self.net, self.mode, self.sha256 = net.eval().requires_grad_(False), mode, sha256
        self.verified = sha256.startswith(SHA256)
        which = "2015-12-05" if self.verified else f"unverified {sha256[:8]}"
        self.name = f"inception {which} ({mode})"
        below = {name: value for name, value in net.state_dict().items() if not name.startswith("fc.")}
        self.fingerprint = fingerprint(below, mode=mode, version=VERSION)

    def __call__(self, x):
        if not isinstance(x, torch.Tensor) or x.dtype != torch.float32:
            raise TypeError(f"x must be a float32 tensor; got {x.dtype if hasattr(x, 'dtype') else type(x).__name__}")
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(f"x must hold images of shape (B, 1 or 3, H, W); got {tuple(x.shape)}")
        self.net.to(x.device)
        with inference(self.net, x.device):
            return self.net(RESIZES[self.mode](quantize(x)))

    def probabilities(self, x, *, batch=64):
        """p(class | x), (N, 1008) float32 from `x: (N, *)`, for the inception score; see `classify`."""
        self._needs_last_layer()
        return self.classify(extract(self, x, batch=batch))

    def classify(self, features):
        """p(class | features), (N, 1008) float32, from features (N, 2048) that were extracted before.

        As torch-fidelity's "logits_unbiased", the last layer's bias is left out. Raises ValueError if the file had no
        last layer.
        """
        self._needs_last_layer()
        self.net.to(features.device)
        return in_chunks(lambda y: (y @ self.net.fc.weight.T).softmax(1), features)

    def _needs_last_layer(self):
        if self.net.fc is None:
            raise ValueError("the inception score needs the last layer fc, which the weights of blocks.N.M... lack")


def _read(path, content):
    """The tensors by name."""
    try:
        if Path(path).suffix == ".safetensors":
            state = read_tensors(content)
        else:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises whatever it pleases
        raise ValueError(f"path: {path} cannot be read as weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"path must hold a dict of tensors; got {type(state).__name__} in {path}")
    return state


def _network(state, path):
    """The network with these weights, which must be all of its own and no others."""
    state = {
        _renamed(name): value.to(torch.float32, copy=True)
        for name, value in state.items()
        if not name.endswith(_COUNTER)
    }
    with torch.device("meta"):  # no memory and no random numbers for what is replaced below
        net = Inception(classify=any(name.startswith("fc.") for name in state))
    own = {name: value for name, value in net.state_dict().items() if not name.endswith(_COUNTER)}
    if problems := misfits(state, own):
        raise ValueError(f"path: {path} is no FID Inception; {problems}. Known layouts: {_LAYOUTS}")
    counters = net.state_dict().keys() - own.keys()
    net.load_state_dict(state | {name: torch.tensor(0, device="cpu") for name in counters}, assign=True)
    return net


def _renamed(name):
    """blocks.N.M.rest of pytorch-fid's module as the file names it; other names as they are."""
    match = re.fullmatch(r"blocks\.(\d)\.(\d)\.(.*)", name)
    if match is None:
        return name
    block, place, rest = int(match[1]), int(match[2]), match[3]
    return f"{_BLOCKS[block][place]}.{rest}" if block < 4 and place < len(_BLOCKS[block]) else name
