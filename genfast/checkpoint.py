"""A trained model as a folder of two files: `model.json` and the `model-<hash>.safetensors` that it names.

`model.json` is the commit mark. Both files are written under temporary names first; then the weights get theirs, made
of their own sha256; then the JSON that names them replaces the old one, in one rename; then what that named is removed,
and nothing else. So a process killed anywhere leaves either the old checkpoint or the new one. Both files carry a
sha256, because neither format notices a flipped bit. Nothing is ever unpickled. One writer at a time: common/locks.py.

A model takes part with four methods: `config()`, its constructor arguments, where a network may stand as itself and
all else is JSON-able; `from_config(config)`, a class method, the reverse; `state_dict()` and `load_state_dict()`.
To be loaded onto a device, also `to(device)`. `@register` makes its class known. A network of `genfast.nn.NETWORKS` is
rebuilt from its own `config`; any other is passed to `load`.
"""

import hashlib
import importlib
import json
import re
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from . import nn
from .common.files import CorruptCheckpoint, write_files
from .common.locks import write_in
from .common.versions import versions

FORMAT = 2
WEIGHTS = re.compile(r"model-[0-9a-f]{16}\.safetensors")  # their file
REPLACED = ".model-replaced.tmp"  # the note of what a save is about to remove
MODELS = {}  # class name -> class; filled by @register
# Where the classes of genfast lie: a package is imported, and registers its own, when a file asks for one of them.
HOMES = {
    "Diffusion": "diffusion", "LatentDiffusion": "latent_diffusion", "VAE": "vae", "GAN": "gan",
    "Gaussian": "gaussian", "GaussianMixture": "gaussian", "PPCA": "gaussian",
}  # fmt: skip


def register(cls):
    """Class decorator: makes a model class loadable by its name."""
    MODELS[cls.__name__] = cls
    return cls


def save(model, path, extra=None):
    """Write the model into the folder `path`, made if need be. Atomic and durable; file modes follow the umask. Of what
    is there already, only the weights that the old model.json names are removed.

    extra: anything JSON-able to keep beside it, e.g. the step; `load` hands it back as `model.extra`.
    Raises TypeError or ValueError if the model or `extra` cannot be described in JSON, before anything is written;
    OSError with the file's name if the disk is full or read-only, and then the old checkpoint is intact; TimeoutError
    with process and host if another one has been writing there for 60 s.
    """
    manifest = describe(model)
    try:
        manifest["extra"] = json.loads(json.dumps(extra, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"extra must be something that JSON can hold; {error}") from error
    # One copy on the CPU, contiguous: safetensors refuses views and weights that share memory.
    state = {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }
    manifest["tensors"] = {name: _described_tensor(value) for name, value in state.items()}
    weights = safetensors.torch.save(state)
    digest = hashlib.sha256(weights).hexdigest()
    manifest |= {"weights": f"model-{digest[:16]}.safetensors", "sha256": digest}
    manifest = _sealed(manifest)

    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    with write_in(folder) as exclusive:
        _replace(folder, manifest, weights, exclusive)


def _replace(folder, manifest, weights, exclusive):
    """The new files in place of the old ones. Without the lock, temporary files may be those of a living process.

    A process killed before its tidying leaves weights that no model.json names. So what is to be removed is noted
    before, in a temporary file; what the note or the new model.json of a killed process names is stale as well.
    """
    current, note = folder / "model.json", folder / REPLACED
    leftovers = [file for file in folder.glob(".model*.tmp") if file.is_file()] if exclusive else []
    notes = [file for file in leftovers if file.name == REPLACED or file.name.startswith(".model.json.")]
    stale = {name for file in (current, *notes) for name in _weights_named(file)} - {manifest["weights"]}
    try:
        if stale and exclusive:
            note.write_text(json.dumps(_sealed({"weights": sorted(stale)})))
        write_files({folder / manifest["weights"]: weights, current: json.dumps(manifest, indent=1).encode()})
    except OSError:
        note.unlink(missing_ok=True)
        raise
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    for file in {*leftovers, note}:
        file.unlink(missing_ok=True)


def remove(path):
    """Remove the checkpoint in the folder `path`: model.json and the weights that it names, nothing else."""
    folder = Path(path)
    with write_in(folder):
        names = _weights_named(folder / "model.json")
        for name in ("model.json", *names):
            (folder / name).unlink(missing_ok=True)


def _weights_named(file):
    """The files of weights that a model.json, or what is to become one, names; none if it is not as it was written."""
    try:
        content = json.loads(file.read_bytes())
        whole = content.pop("manifest_sha256") == _digest(content)
        names = [content["weights"]] if isinstance(content["weights"], str) else content["weights"]
        return [name for name in names if whole and WEIGHTS.fullmatch(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _sealed(manifest):
    """The manifest with the sha256 of its content."""
    return manifest | {"manifest_sha256": _digest(manifest)}


def load(path, net=None, device=None):
    """The model saved in the folder `path`, on the CPU or on `device`; `model.extra` is what was saved beside it.

    net: the network to load the weights into; needed when it is not one of `genfast.nn.NETWORKS`. For a model of
    several networks, a dict from the argument's name to the network.
    Raises CorruptCheckpoint naming the damaged file, FileNotFoundError if there is no checkpoint, ValueError if the
    network or the class is unknown or does not fit.
    """
    folder = Path(path)
    manifest = _read_manifest(folder / "model.json")
    file = folder / manifest["weights"]
    try:
        weights = file.read_bytes()
    except FileNotFoundError:
        if _read_manifest(folder / "model.json") != manifest:  # a training run has just replaced it
            return load(path, net, device)
        raise CorruptCheckpoint(f"{file} is missing, although model.json names it") from None
    if hashlib.sha256(weights).hexdigest() != manifest["sha256"]:
        raise CorruptCheckpoint(f"{file} is damaged: its sha256 is not the one in model.json")

    if manifest["model"] in HOMES:
        importlib.import_module(f".{HOMES[manifest['model']]}", __package__)
    if manifest["model"] not in MODELS:
        known = sorted({*HOMES, *MODELS})
        raise ValueError(f"{folder} holds a model of class {manifest['model']!r}, known are {known}")
    model = MODELS[manifest["model"]].from_config(_build_networks(manifest["config"], net, folder))
    try:
        model.load_state_dict(safetensors.torch.load(weights))
    except RuntimeError as error:
        raise ValueError(f"net: the weights in {folder} do not fit this network. {error}") from error
    model.extra = manifest["extra"]
    if manifest["names"] is not None:
        model.names = tuple(manifest["names"])
    return model if device is None else model.to(device)


def describe(model):
    """What rebuilds the model: a JSON-able dict of its class, its arguments, its networks, and versions.

    Raises TypeError if the model cannot say it; so a long run can find out before it starts.
    """
    for method in ("config", "from_config", "state_dict", "load_state_dict"):
        if not callable(getattr(model, method, None)):
            raise TypeError(f"model must have a method {method}(), which {type(model).__name__} lacks")
    config = {name: _describe_network(value) for name, value in model.config().items()}
    try:
        config = json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        name = type(model).__name__
        raise TypeError(f"model must have a config() that JSON can hold; {name}.config() has not: {error}") from error
    names = getattr(model, "names", None)  # of the classes; a model of another's may mean something else
    named = {"model": type(model).__name__, "config": config, "names": names if isinstance(names, tuple) else None}
    return {"format": FORMAT} | versions() | named


def _described_tensor(value):
    """{"dtype", "shape"} of a tensor, by torch's names."""
    return {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}


def _describe_network(value):
    """A network becomes {"network": class name, "config": arguments, or None if it has to be passed to `load`}."""
    if not isinstance(value, torch.nn.Module):
        return value
    name = type(value).__name__
    return {"network": name, "config": value.config if nn.NETWORKS.get(name) is type(value) else None}


def _build_networks(config, net, folder):
    marks = {"network", "config"}
    places = [name for name, value in config.items() if isinstance(value, dict) and value.keys() == marks]
    networks = net if isinstance(net, dict) else dict.fromkeys(places[:1] if net is not None else (), net)
    if unknown := set(networks) - set(places):
        raise ValueError(f"net must be for the networks of {folder}, {places}; got one for {sorted(unknown)}")
    if net is not None and not isinstance(net, dict) and len(places) != 1:
        raise ValueError(f"net must be a dict with keys of {places}, the {len(places)} networks of {folder}")
    built = dict(config)
    for place in places:
        name, arguments = config[place]["network"], config[place]["config"]
        if place in networks:
            built[place] = networks[place]
        elif arguments is not None and name in nn.NETWORKS:
            built[place] = nn.NETWORKS[name](**arguments)
        else:
            raise ValueError(
                f"net: {folder} holds a network of class {name!r}, which is not one of genfast's own "
                f"{sorted(nn.NETWORKS)}; build it and pass it, load(path, net={name}(...))"
            )
    return built


def _read_manifest(file):
    """The content of model.json, if all of it is as it was written."""
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"no checkpoint in {file.parent}: there is no model.json") from None
    try:
        manifest = json.loads(text)
        if manifest.pop("manifest_sha256") != _digest(manifest):
            raise ValueError("its content does not match its own sha256")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptCheckpoint(f"{file} is damaged: {error}") from error
    if manifest["format"] != FORMAT:
        older = manifest["format"] < FORMAT
        remedy = "train or save it again" if older else "upgrade this one"
        raise ValueError(
            f"{file} was written by {'an older' if older else 'a newer'} genfast: {remedy}. It has format "
            f"{manifest['format']}, of genfast {manifest['genfast']}; genfast {versions()['genfast']} reads {FORMAT}"
        )
    if not WEIGHTS.fullmatch(manifest["weights"]):
        raise CorruptCheckpoint(f"{file} names weights outside its folder: {manifest['weights']!r}")
    return manifest


def _digest(manifest):
    """sha256 of the content, whatever the layout of the text."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, allow_nan=False).encode()).hexdigest()
