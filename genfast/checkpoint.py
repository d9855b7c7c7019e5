"""A trained model as a folder of two files: `model.json` and the `model-<hash>.safetensors` that it names.

`model.json` is the commit mark. Both files are written under temporary names first; then the weights get theirs, made
of their own sha256; then the JSON that names them replaces the old one, in one rename; then what that named is removed,
and nothing else. So a process killed anywhere leaves either the old checkpoint or the new one. Both files carry a
sha256, because neither format notices a flipped bit. Nothing in it is ever unpickled. (In all of genfast one file may
be, the weights of Inception, and that by torch's reader of tensors alone: features/inception.py.) One writer at a time:
common/locks.py.

A model takes part with four methods: `config()`, its constructor arguments, where a network may stand as itself and
all else is JSON-able; `from_config(config)`, a class method, the reverse; `state_dict()` and `load_state_dict()`.
To be loaded onto a device, also `to(device)`. `@register` makes its class known. A network of `genfast.nn.NETWORKS` is
rebuilt from its own `config`; any other is passed to `load`. A network that torch wraps, by torch.compile or
DataParallel, is saved as what it holds, under that one's names.
"""

import copy
import functools
import hashlib
import importlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch

from . import nn
from .common.checks import require_device
from .common.files import CorruptCheckpoint, as_path, made_folder, read_tensors, write_files
from .common.limits import Calls, largest_integer
from .common.locks import write_in
from .common.sealed import corrupt, read_sealed, require_format, sealed
from .common.state import misfits, not_finite, own_names, parameter_names, unwrapped
from .common.versions import versions

FORMAT = 2
FIELDS = {  # of model.json, and of what type
    "model": (str,), "config": (dict,), "names": (list, type(None)), "tensors": (dict,), "weights": (str,),
    "sha256": (str,),
}  # fmt: skip
LEAST = 2**16  # an argument of a network may be as large, even if its weights are fewer numbers
OURS = re.compile(rb'"(genfast|manifest_sha256)"')  # in a model.json that we wrote, also where it is cut short
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
    Raises, before anything is written, TypeError or ValueError if the model or `extra` cannot be described in JSON, or
    `path` is that of a file; FloatingPointError, with the tensor's name, if a parameter is not finite or a buffer holds
    NaN; FileExistsError if there is a model.json that genfast did not write. OSError with the file's name if the disk
    is full or read-only, and then the old checkpoint is intact; TimeoutError with process and host if another one has
    been writing there for 60 s.
    """
    manifest, model = describe(model), unwrapped(model)
    try:
        manifest["extra"] = json.loads(json.dumps(extra, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"extra must be something that JSON can hold; {error}") from error
    values = model.state_dict()
    names = own_names(model, values)
    # One copy on the CPU, contiguous: safetensors refuses views and weights that share memory.
    state = {
        names[name]: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in values.items()
    }
    if problem := not_finite(state, parameter_names(model, state)):
        raise FloatingPointError(f"model must be finite to be saved; {problem}")
    manifest["tensors"] = {name: _described_tensor(value) for name, value in state.items()}
    weights = safetensors.torch.save(state)
    digest = hashlib.sha256(weights).hexdigest()
    manifest |= {"weights": f"model-{digest[:16]}.safetensors", "sha256": digest}
    manifest = sealed(manifest)

    folder = made_folder("path", path)
    with write_in(folder) as exclusive:
        _require_ours(folder / "model.json")
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
            note.write_text(json.dumps(sealed({"weights": sorted(stale)})))
        write_files({folder / manifest["weights"]: weights, current: json.dumps(manifest, indent=1).encode()})
    except OSError:
        note.unlink(missing_ok=True)
        raise
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    for file in {*leftovers, note}:
        file.unlink(missing_ok=True)


def _require_ours(file):
    """Raises FileExistsError if there is a model.json of others, which may be damaged, but not empty."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return
    if content and not OURS.search(content):
        raise FileExistsError(
            f"path must not hold the model.json of another program; got {file}, which genfast did not write: pass "
            "another folder, or move it away"
        )


def remove(path):
    """Remove the checkpoint in the folder `path`: model.json and the weights that it names, nothing else. Raises
    FileExistsError if genfast did not write that model.json."""
    folder = Path(path)
    with write_in(folder):
        _require_ours(folder / "model.json")
        names = _weights_named(folder / "model.json")
        for name in ("model.json", *names):
            (folder / name).unlink(missing_ok=True)


def _weights_named(file):
    """The files of weights that a model.json, or what is to become one, names; none if it is not as it was written."""
    try:
        weights = read_sealed(file)["weights"]
        return [name for name in ([weights] if isinstance(weights, str) else weights) if WEIGHTS.fullmatch(name)]
    except (CorruptCheckpoint, OSError, KeyError, TypeError):
        return []


def load(path, net=None, device=None):
    """The model saved in the folder `path`, on the CPU or on `device`, in the precision in which it was saved;
    `model.extra` is what was saved beside it. torch's global random state stays as it was.

    net: the network to load the weights into; needed when it is not one of `genfast.nn.NETWORKS`. For a model of
    several networks, a dict from the argument's name to the network.
    Raises CorruptCheckpoint, with folder, file and versions, if a file is damaged, missing, unreadable or not what
    genfast writes: names, shapes and dtypes are compared before memory is taken for the model. FileNotFoundError if
    there is no checkpoint; ValueError if `path` is a file, the format is another one, the class or the network is
    unknown, or `net` does not fit; TypeError if `net` is no network; FloatingPointError, with the tensor's name, if a
    parameter is not finite or a buffer holds NaN.
    """
    folder = as_path("path", path)
    device = None if device is None else require_device("device", device)
    manifest = _read_manifest(folder / "model.json")
    file = folder / manifest["weights"]
    try:
        weights = file.read_bytes()
    except FileNotFoundError:
        if _read_manifest(folder / "model.json") != manifest:  # a training run has just replaced it
            return load(path, net, device)
        raise corrupt(file, "is missing, although model.json names it", manifest) from None
    except OSError as error:
        raise corrupt(file, f"cannot be read: {error.strerror}", manifest) from error
    if hashlib.sha256(weights).hexdigest() != manifest["sha256"]:
        raise corrupt(file, "is damaged: its sha256 is not the one in model.json", manifest)
    try:
        state = read_tensors(weights)
    except Exception as error:  # a foreign one may have the right sha256; of its header anything may be wrong
        raise corrupt(file, f"holds no tensors: {error}", manifest) from error
    if {name: _described_tensor(value) for name, value in state.items()} != manifest["tensors"]:
        raise corrupt(file, "holds other tensors than model.json says", manifest)

    numbers = sum(math.prod(tensor["shape"]) for tensor in manifest["tensors"].values())
    kind, networks = _class_of(manifest, folder), _networks(manifest, net, folder, numbers)

    def build():
        config = copy.deepcopy(manifest["config"])
        return kind.from_config(config | {place: make() for place, make in networks.items()})

    def refuse(words):
        if net is None:
            return corrupt(folder / "model.json", f"does not fit its weights: {words}", manifest)
        return ValueError(f"net: the weights in {folder} do not fit this network: {words}")

    model = _built(build, kind, state, refuse)
    if manifest["names"] is not None and len(manifest["names"]) != getattr(model, "classes", 0):
        raise refuse(f"it has {len(manifest['names'])} names for {getattr(model, 'classes', 0)} classes")
    if problem := not_finite(state, parameter_names(model, state)):
        raise FloatingPointError(f"{file} must hold finite weights to be loaded; {problem}")
    values = model.state_dict(keep_vars=True) if isinstance(model, torch.nn.Module) else {}
    names = own_names(model, model.state_dict())
    for name, value in values.items():
        if value.dtype != state[names[name]].dtype:
            value.data = value.data.to(state[names[name]].dtype)
    try:
        model.load_state_dict({name: state[own] for name, own in names.items()})
    except RuntimeError as error:
        raise refuse(error) from error
    model.extra = manifest["extra"]
    if manifest["names"] is not None:
        model.names = tuple(manifest["names"])
    return model if device is None else model.to(device)


def _built(build, kind, state, refuse):
    """The model, still without its weights, if these fit it: `refuse` makes the error from words.

    It is built twice, at first on torch's meta device, where tensors take no memory and have no numbers. A class of the
    user's may need numbers when it is made: then only the second time, and compared after that.
    """
    draft = None
    try:
        with torch.device("meta"), Calls(1000 + 100 * len(state)):
            draft = build()
    except Exception as error:  # the constructors of a foreign config raise whatever they please
        if kind.__module__.partition(".")[0] == __package__:
            raise refuse(f"{kind.__name__} refuses its config, {error!r}") from error
    if draft is not None:
        _require_fit(draft, state, refuse)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        try:
            model = build()
        except Exception as error:
            raise refuse(f"{kind.__name__} refuses its config, {error!r}") from error
    if draft is None:
        _require_fit(model, state, refuse)
    return model


def _require_fit(model, state, refuse):
    """Raises if the tensors cannot be those of the model."""
    values = model.state_dict()
    names = own_names(model, values)
    if wrong := misfits(state, {names[name]: value for name, value in values.items()}):
        raise refuse(wrong)


def describe(model):
    """What rebuilds the model: a JSON-able dict of its class, its arguments, its networks, and versions.

    Raises TypeError if the model cannot say it; so a long run can find out before it starts.
    """
    model = unwrapped(model)
    for method in ("config", "from_config", "state_dict", "load_state_dict"):
        if not callable(getattr(model, method, None)):
            raise TypeError(f"model must have a method {method}(), which {type(model).__name__} lacks")
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"model must have a state_dict() of tensors; got {type(value).__name__} for {name}")
    config = {name: _describe_network(value) for name, value in model.config().items()}
    try:
        config = json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        name = type(model).__name__
        raise TypeError(f"model must have a config() that JSON can hold; {name}.config() has not: {error}") from error
    names = getattr(model, "names", None)  # of the classes; a model of another's may mean something else
    named = {"model": type(model).__name__, "config": config, "names": names if isinstance(names, tuple) else None}
    return {"format": FORMAT} | versions() | named


def rebuilt(description, folder, numbers):
    """A model of the class, arguments and names of classes in `description`, what `describe` said of another one, with
    new weights. numbers: that may be trained.  folder: what it was read from, for messages.

    Raises ValueError if the class, or a network, is not one that genfast knows; CorruptCheckpoint if the class refuses
    its arguments.
    """
    kind, networks = _class_of(description, folder), _networks(description, None, folder, numbers)
    try:
        config = copy.deepcopy(description["config"])
        model = kind.from_config(config | {place: make() for place, make in networks.items()})
    except Exception as error:  # the constructors of a foreign config raise whatever they please
        raise corrupt(folder, f"describes no model: {kind.__name__} refuses its config, {error!r}") from error
    if description["names"] is not None:
        model.names = tuple(description["names"])
    return model


def _described_tensor(value):
    """{"dtype", "shape"} of a tensor, by torch's names."""
    return {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}


def _describe_network(value):
    """A network becomes {"network": class name, "config": arguments, or None if it has to be passed to `load`}."""
    value = unwrapped(value)
    if not isinstance(value, torch.nn.Module):
        return value
    name = type(value).__name__
    return {"network": name, "config": value.config if nn.NETWORKS.get(name) is type(value) else None}


def _class_of(manifest, folder):
    """The class of the model; what has to be imported for it is."""
    name = manifest["model"]
    if name in HOMES:
        importlib.import_module(f".{HOMES[name]}", __package__)
    if name not in MODELS:
        raise ValueError(f"{folder} holds a model of class {name!r}, known are {sorted({*HOMES, *MODELS})}")
    return MODELS[name]


def _networks(manifest, net, folder, numbers) -> dict[str, Callable]:
    """What makes each network of the config, by its place there: from its own config, or the one that was passed.
    numbers: that the weights hold."""
    marks, config = {"network", "config"}, manifest["config"]
    places = [name for name, value in config.items() if isinstance(value, dict) and value.keys() == marks]
    given = net if isinstance(net, dict) else dict.fromkeys(places[:1] if net is not None else (), net)
    if unknown := set(given) - set(places):
        raise ValueError(f"net must be for the networks of {folder}, {places}; got one for {sorted(unknown)}")
    if net is not None and not isinstance(net, dict) and len(places) != 1:
        raise ValueError(f"net must be a dict with keys of {places}, the {len(places)} networks of {folder}")
    makers = {}
    for place in places:
        name, arguments = config[place]["network"], config[place]["config"]
        if type(name) is not str or type(arguments) not in (dict, type(None)):
            raise corrupt(folder / "model.json", f"describes no network in {place!r}", manifest)
        if largest_integer(arguments) > max(LEAST, numbers):  # lists of that length are made before any tensor
            raise corrupt(folder / "model.json", f"says more of {place!r} than its weights can hold", manifest)
        if place in given:
            if not isinstance(given[place], torch.nn.Module):
                raise TypeError(f"net must be a torch.nn.Module; got {type(given[place]).__name__} for {place!r}")
            makers[place] = functools.partial(given.get, place)
        elif arguments is not None and name in nn.NETWORKS:
            makers[place] = functools.partial(nn.NETWORKS[name], **arguments)
        else:
            raise ValueError(
                f"net: {folder} holds a network of class {name!r}, which is not one of genfast's own "
                f"{sorted(nn.NETWORKS)}; build it and pass it, load(path, net={name}(...))"
            )
    return makers


def _read_manifest(file):
    """The content of model.json, if all of it is as it was written, and what genfast writes."""
    try:
        manifest = read_sealed(file)
    except FileNotFoundError:
        what = "is a link to nothing" if file.is_symlink() else "is not there"
        raise FileNotFoundError(f"no checkpoint in {file.parent}: model.json {what}") from None
    except NotADirectoryError:
        raise ValueError(f"path must be the folder of a checkpoint; got {file.parent}, a file") from None
    require_format(file, manifest, FORMAT, "train or save it again")
    missing = [name for name in (*FIELDS, *versions(), "extra") if name not in manifest]
    wrong = [name for name, types in FIELDS.items() if name in manifest and type(manifest[name]) not in types]
    if "names" not in wrong and not _are_names(manifest.get("names") or []):
        wrong.append("names")
    if missing or wrong:
        raise corrupt(file, f"is not what genfast writes: {missing or 'nothing'} missing, {wrong} wrong", manifest)
    if not WEIGHTS.fullmatch(manifest["weights"]):
        raise corrupt(file, f"names weights outside its folder: {manifest['weights']!r}", manifest)
    return manifest


def _are_names(values):
    return all(type(value) is str for value in values) and len(set(values)) == len(values)
