"""Weights of diffusers' UNet2DModel, in and out of `genfast.nn.UNet`.

    net = from_unet2d("folder/unet")  # or a UNet2DModel; net(x, t), t (B,) in [0, 1], is theirs at timestep 999 t
    save_unet2d(net, "folder/unet")  # for UNet2DModel.from_pretrained; to_unet2d(net) is the module itself

The names of configs, tensors and files are diffusers'; the mathematics is the same, so nothing is approximated.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ...common.files import read_tensors, write_file
from ...diffusion.process.denoisers import STEPS
from ...nn import UNet
from ...nn.layers import NormAct
from ...nn.timesteps import Sinusoid
from ...nn.unet import Stage, channel_counts

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"

# What a config may leave out is diffusers' default. Of these, UNet has no other value.
FIXED = {
    "center_input_sample": False, "time_embedding_type": "positional", "time_embedding_dim": None, "act_fn": "silu",
    "mid_block_type": "UNetMidBlock2D", "mid_block_scale_factor": 1, "downsample_type": "conv", "upsample_type": "conv",
    "class_embed_type": None,
}  # fmt: skip
READ = {
    "in_channels": 3, "out_channels": 3, "freq_shift": 0, "flip_sin_to_cos": True,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896), "layers_per_block": 2, "downsample_padding": 1, "dropout": 0.0,
    "attention_head_dim": 8, "norm_num_groups": 32, "attn_norm_num_groups": None, "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default", "add_attention": True, "num_class_embeds": None,
}  # fmt: skip
IGNORED = {"sample_size", "num_train_timesteps"}
MIRRORED = {"DownBlock2D": "UpBlock2D", "AttnDownBlock2D": "AttnUpBlock2D"}
MODULATIONS = {"default": "add", "scale_shift": "scale_shift"}
PADDINGS = {0: "convolution behind", 1: "convolution"}

# Names of modules, ours and theirs.
TOP = {
    "condition.first": "time_embedding.linear_1", "condition.second": "time_embedding.linear_2", "input": "conv_in",
    "norm": "conv_norm_out", "output": "conv_out",
}  # fmt: skip
BLOCK = {
    "norm_1": "norm1", "mix_1": "conv1", "modulation": "time_emb_proj", "norm_2": "norm2", "mix_2": "conv2",
    "skip": "conv_shortcut",
}  # fmt: skip
ATTENTION = {"norm": "group_norm", "query_key_value": "to_q to_k to_v", "output": "to_out.0"}
BEFORE_0_13 = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # names in older files


def from_unet2d(model) -> UNet:
    """A UNet with the weights of a UNet2DModel, or of a folder that holds its config.json and safetensors file.

    Its forward takes t (B,) in [0, 1], as every network of a Diffusion, and is theirs at timestep 999 t. Of a
    class-conditional model, all labels are taken; the last is the one that UNet calls null and takes where none is
    given. The answer is in `eval` mode, on the device and of the dtype of the weights, and shares no memory with them.
    Raises ValueError naming what UNet cannot express; FileNotFoundError if a file is missing.
    """
    if isinstance(model, torch.nn.Module):
        config, weights = dict(model.config), model.state_dict()
    else:
        folder = Path(model)
        config = json.loads((folder / CONFIG).read_text())
        weights = read_tensors((folder / WEIGHTS).read_bytes())
    with torch.device("meta"):
        net = UNet(**arguments(config))
    return _load(net, weights).eval()


def to_unet2d(net: UNet, sample_size: int | tuple[int, int] | None = None):
    """The UNet2DModel with copies of the weights of a UNet. Raises ValueError naming what it cannot express."""
    from diffusers import UNet2DModel

    config = to_config(net, sample_size)
    with torch.device("meta"):
        model = UNet2DModel(**config)
    model.load_state_dict(_weights(net), assign=True)
    return model.train(net.training)


def save_unet2d(net: UNet, folder, sample_size: int | tuple[int, int] | None = None) -> None:
    """Write a UNet into a folder, made if need be, as UNet2DModel.from_pretrained reads it; each file atomically.

    Raises ValueError naming what a UNet2DModel cannot express, before anything is written.
    """
    config = {"_class_name": "UNet2DModel", **to_config(net, sample_size)}
    weights = safetensors.torch.save({k: v.contiguous() for k, v in _weights(net).items()}, {"format": "pt"})
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / WEIGHTS, weights)
    write_file(folder / CONFIG, json.dumps(config, indent=2).encode())


def arguments(config: dict) -> dict:
    """Those of UNet, from the config of a UNet2DModel. Raises ValueError naming what UNet cannot express."""
    config = {name: value for name, value in config.items() if not name.startswith("_")}
    unknown = config.keys() - READ.keys() - FIXED.keys() - IGNORED
    require(not unknown, "only options of UNet2DModel", sorted(unknown))
    for name, value in FIXED.items():
        require(config.get(name, value) == value, f"{name} = {value!r}", config.get(name))
    c = {name: config.get(name, value) for name, value in READ.items()}

    down, widths = list(c["down_block_types"]), list(c["block_out_channels"])
    require(set(down) <= MIRRORED.keys(), f"down_block_types out of {sorted(MIRRORED)}", down)
    up = [MIRRORED[block] for block in reversed(down)]
    require(list(c["up_block_types"]) == up, f"up_block_types that mirror the other side, {up}", c["up_block_types"])
    attention = [level for level, block in enumerate(down) if block.startswith("Attn")]
    for name, allowed in (("resnet_time_scale_shift", MODULATIONS), ("downsample_padding", PADDINGS)):
        require(c[name] in allowed, f"{name} out of {list(allowed)}", c[name])
    groups, of_middle, modulation = c["norm_num_groups"], c["attn_norm_num_groups"], c["resnet_time_scale_shift"]
    require(groups is not None, "norm_num_groups", None)
    require(of_middle in (None, groups), f"attn_norm_num_groups = {groups} or None", of_middle)
    middle = "attention" if of_middle or modulation == "default" else "attention without norm"
    head, attended = c["attention_head_dim"], [widths[level] for level in attention]
    attended += widths[-1:] * c["add_attention"]
    require(not head or not any(width % head for width in attended), f"a head width that divides {attended}", head)
    require(c["num_class_embeds"] != 1, "num_class_embeds = None or at least 2", 1)
    return {
        "channels": c["in_channels"],
        "width": widths[0],
        "multipliers": [width / widths[0] for width in widths],
        "blocks": c["layers_per_block"],
        "attention": attention,
        "classes": (c["num_class_embeds"] or 1) - 1,
        "condition": 0,
        "out_channels": c["out_channels"],
        "pad": False,
        "dims": 2,
        "modulation": MODULATIONS[modulation],
        "resample": PADDINGS[c["downsample_padding"]],
        "middle": middle if c["add_attention"] else "blocks",
        "head_width": head,
        "skip_scale": 1.0,
        "groups": groups,
        "eps": c["norm_eps"],
        "dropout": c["dropout"],
        "timesteps": {"shift": c["freq_shift"], "flip": c["flip_sin_to_cos"], "scale": float(STEPS)},
    }


def to_config(net: UNet, sample_size: int | tuple[int, int] | None = None) -> dict:
    """The config of the UNet2DModel that computes what a UNet does. Raises ValueError naming what it cannot express."""
    ours, time = dict(net.config), net.style.timesteps
    widths = channel_counts(ours["width"], ours["multipliers"])
    down = ["AttnDownBlock2D" if level in ours["attention"] else "DownBlock2D" for level in range(len(widths))]
    groups = {module.groups for module in net.modules() if isinstance(module, NormAct)}
    require(len(groups) == 1, "norms that all have one number of groups", sorted(groups))
    require(ours["resample"] in PADDINGS.values(), f"resample out of {list(PADDINGS.values())}", ours["resample"])
    require(time is not None, "timesteps = {'shift', 'flip'}", time)
    ours |= {
        "multipliers": [width / widths[0] for width in widths],
        "out_channels": net.output.out_channels,
        "groups": groups.pop(),
        # UNet2DModel counts steps, whether a UNet does so by itself or is told them
        "timesteps": {"shift": 0, "flip": False} | time | {"scale": float(STEPS)},
        "attention": sorted(ours["attention"]),
    }
    config = {
        "sample_size": sample_size,
        "in_channels": ours["channels"],
        "out_channels": ours["out_channels"],
        "freq_shift": ours["timesteps"]["shift"],
        "flip_sin_to_cos": ours["timesteps"]["flip"],
        "down_block_types": down,
        "up_block_types": [MIRRORED[block] for block in reversed(down)],
        "block_out_channels": widths,
        "layers_per_block": ours["blocks"],
        "downsample_padding": _key_of(PADDINGS, ours["resample"]),
        "dropout": ours["dropout"],
        "attention_head_dim": ours["head_width"],
        "norm_num_groups": ours["groups"],
        "attn_norm_num_groups": ours["groups"] if ours["middle"] == "attention" else None,
        "norm_eps": ours["eps"],
        "resnet_time_scale_shift": _key_of(MODULATIONS, ours["modulation"]),
        "add_attention": ours["middle"] != "blocks",
        "num_class_embeds": ours["classes"] + 1 if ours["classes"] else None,
    }
    for name, value in arguments(config).items():
        require(ours[name] == value, f"{name} = {value!r}", ours[name])
    return config


def require(condition: bool, expected: str, got: object) -> None:
    """Raises ValueError unless `condition`."""
    if not condition:
        raise ValueError(f"UNet and UNet2DModel have in common {expected}; got {got!r}")


def tensors(net: UNet) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(our name, their names) of each tensor of the state; of more than one, ours is the concatenation."""
    for ours, theirs in modules(net):
        for leaf, _ in net.get_submodule(ours).named_parameters():
            yield f"{ours}.{leaf}", tuple(f"{name}.{leaf}" for name in theirs.split())


def modules(net: UNet) -> Iterator[tuple[str, str]]:
    """(our name, their names with blanks between) of each module that has parameters of its own."""
    yield from TOP.items()
    if net.config["classes"]:
        yield "condition.conditions.label", "class_embedding"
    for side in ("down", "up"):
        for index, level in enumerate(getattr(net, side)):
            theirs = f"{side}_blocks.{index}"
            for j, stage in enumerate(level.stages):
                yield from of_stage(stage, f"{side}.{index}.stages.{j}", theirs, j)
            if level.resample is not None:
                yield f"{side}.{index}.resample.mix", f"{theirs}.{side}samplers.0.conv"
    for j, stage in enumerate(net.middle):
        yield from of_stage(stage, f"middle.{j}", "mid_block", j)


def of_stage(stage: Stage, ours: str, theirs: str, j: int) -> Iterator[tuple[str, str]]:
    for name, of_theirs in BLOCK.items():
        if list(getattr(stage.block, name).parameters()):
            yield f"{ours}.block.{name}", f"{theirs}.resnets.{j}.{of_theirs}"
    if stage.attention is not None:
        for name, of_theirs in ATTENTION.items():
            if list(getattr(stage.attention, name).parameters()):
                yield f"{ours}.attention.{name}", " ".join(f"{theirs}.attentions.{j}.{n}" for n in of_theirs.split())


def _load(net: UNet, weights: dict[str, Tensor]) -> UNet:
    """`net`, built on no device, with these weights."""
    for theirs, older in BEFORE_0_13.items():
        weights = {re.sub(rf"(attentions\.\d+\.){older}\.", rf"\1{theirs}.", k): v for k, v in weights.items()}
    state, left = {}, dict(weights)
    for ours, theirs in tensors(net):
        missing = [name for name in theirs if name not in left]
        require(not missing, "the tensors of their configs", f"none called {missing}")
        state[ours], shape = torch.cat([left.pop(name) for name in theirs]), net.get_parameter(ours).shape  # copies
        require(state[ours].shape == shape, f"{theirs[0]} of shape {tuple(shape)}", tuple(state[ours].shape))
    require(not left, "the tensors of their configs", f"beside them {sorted(left)}")
    net.load_state_dict(state, assign=True)
    time = Sinusoid(net.config["width"], **net.style.timesteps)  # its frequencies are not among the weights
    net.condition.time = time.to(net.output.weight.device)
    return net


def _weights(net: UNet) -> dict[str, Tensor]:
    """Copies of the weights of `net` by their names."""
    state = net.state_dict()
    return {
        name: part.clone()
        for ours, theirs in tensors(net)
        for name, part in zip(theirs, state[ours].chunk(len(theirs)), strict=True)
    }


def _key_of(table: dict, value: object) -> object:
    """The key of a value; None if there is none."""
    return next((key for key, of_key in table.items() if of_key == value), None)
