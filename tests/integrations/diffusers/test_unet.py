"""Weights of diffusers' UNet2DModel, in and out: the same outputs, the same bits back, what cannot be expressed."""

import json
import subprocess
import sys

import pytest
import safetensors.torch
import torch

diffusers = pytest.importorskip("diffusers", reason="needs the diffusers extra")

import genfast as gf  # noqa: E402
from genfast import ops  # noqa: E402
from genfast.diffusion.sampling import sample  # noqa: E402
from genfast.integrations.diffusers import (  # noqa: E402
    denoiser,
    from_scheduler,
    from_unet2d,
    save_unet2d,
    to_unet2d,
)
from genfast.nn import UNet  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")

DDPM_CIFAR = {
    "sample_size": 32, "in_channels": 3, "out_channels": 3, "center_input_sample": False,
    "time_embedding_type": "positional", "freq_shift": 1, "flip_sin_to_cos": False,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (128, 256, 256, 256), "layers_per_block": 2, "mid_block_scale_factor": 1,
    "downsample_padding": 0, "act_fn": "silu", "attention_head_dim": None, "norm_eps": 1e-6, "norm_num_groups": 32,
}  # fmt: skip
SMALL = {
    "in_channels": 2, "out_channels": 2, "layers_per_block": 1, "norm_num_groups": 4, "block_out_channels": (8, 12),
    "attention_head_dim": 4, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
CONFIGS = {
    "small": SMALL,
    "attention at two levels": SMALL | {
        "block_out_channels": (16, 24, 32), "layers_per_block": 2, "norm_num_groups": 8, "attention_head_dim": 8,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    },
    "scale and shift": SMALL | {"resnet_time_scale_shift": "scale_shift", "freq_shift": 1},
    "scale, shift and a norm": SMALL | {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4},
    "classes": SMALL | {"num_class_embeds": 5, "downsample_padding": 0, "flip_sin_to_cos": False},
    "learned variance": SMALL | {"out_channels": 4, "add_attention": False, "norm_eps": 1e-3},
    "one level": SMALL | {
        "block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",),
        "attention_head_dim": None,
    },
    "what is left out is the default": {"block_out_channels": (32, 32, 32, 32), "in_channels": 1, "out_channels": 1},
}  # fmt: skip


def theirs(config):
    """A UNet2DModel whose weights are all random: norms and biases too."""
    torch.manual_seed(0)
    model = diffusers.UNet2DModel(**config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.1)
    return model


def outputs(model, net, size):
    """Theirs and ours, of timesteps at both ends."""
    torch.manual_seed(1)
    x, t = torch.randn(3, model.config.in_channels, *size), torch.tensor([0, 37, 999])
    label = torch.tensor([0, 2, 4]) if model.config.num_class_embeds else None
    with torch.no_grad():
        return model(x, t, class_labels=label).sample, net(x, t.float() if net.counts_steps else t / 999, label)


def equal(one, other):
    """Whether two states have the same names and bits."""
    return one.keys() == other.keys() and all(value.equal(other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_are_those_of_diffusers_and_the_weights_come_back(name, tmp_path):
    model, size = theirs(CONFIGS[name]), (16, 32)
    net = from_unet2d(model)
    expected, ours = outputs(model, net, size)
    assert expected.std() > 0.1 and (ours - expected).abs().max() < 1e-5 * expected.abs().max()

    back = to_unet2d(net, sample_size=model.config.sample_size)
    assert equal(back.state_dict(), model.state_dict()) and outputs(back, net, size)[0].equal(expected)
    save_unet2d(net, tmp_path)
    loaded = diffusers.UNet2DModel.from_pretrained(tmp_path)
    assert equal(loaded.state_dict(), model.state_dict()) and outputs(loaded, net, size)[0].equal(expected)
    again = from_unet2d(tmp_path)
    assert again.config == net.config and equal(again.state_dict(), net.state_dict()) and not again.training


def test_ddpm_cifar():
    model = theirs(DDPM_CIFAR)
    net = from_unet2d(model)
    assert sum(p.numel() for p in net.parameters()) == 35_746_307
    expected, ours = outputs(model, net, (32, 32))
    assert (ours - expected).abs().max() < 1e-5


def test_folders_of_diffusers_new_and_old(tmp_path):
    """Files written before the attention layers were renamed have query, key, value and proj_attn."""
    model = theirs(SMALL)
    model.save_pretrained(tmp_path)
    expected, ours = outputs(model, from_unet2d(str(tmp_path)), (4, 4))
    torch.testing.assert_close(ours, expected)
    state = {}
    for name, value in model.state_dict().items():
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(f".{new}.", f".{old}.")
        state[name] = value
    safetensors.torch.save_file(state, tmp_path / "diffusion_pytorch_model.safetensors")
    assert outputs(model, from_unet2d(tmp_path), (4, 4))[1].equal(ours)


def test_a_folder_needs_no_diffusers(tmp_path):
    theirs(SMALL).save_pretrained(tmp_path)
    code = """if True:
        import sys
        sys.modules["diffusers"] = None
        from genfast.integrations.diffusers import from_unet2d, save_unet2d
        save_unet2d(from_unet2d(sys.argv[1]), sys.argv[1])
        try:
            from genfast.integrations.diffusers import GenfastScheduler
        except ImportError as error:
            print(error)
    """
    ran = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert "GenfastScheduler needs the diffusers library" in ran.stdout


def test_weights_are_copies_of_the_same_dtype():
    model = theirs(SMALL).bfloat16()
    net = from_unet2d(model)
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16} and all(p.requires_grad for p in net.parameters())
    back = to_unet2d(net)
    pointers = [{p.data_ptr() for p in one.parameters()} for one in (model, net, back)]
    assert (
        not pointers[0] & pointers[1] and not pointers[1] & pointers[2] and len(pointers[1]) == len([*net.parameters()])
    )


def test_a_network_of_ours_goes_to_diffusers():
    torch.manual_seed(0)
    style = {"modulation": "add", "resample": "convolution", "skip_scale": 1.0, "head_width": 8}
    net = UNet(3, 16, (1, 1.5), 2, (1,), 4, groups=4, timesteps={"flip": True}, **style).eval()
    torch.nn.init.normal_(net.output.weight)
    theirs, ours = outputs(to_unet2d(net), net, (6, 10))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


REFUSED = {
    "down_block_types": {"down_block_types": ("SkipDownBlock2D", "AttnDownBlock2D")},
    "up_block_types": {"up_block_types": ("UpBlock2D", "UpBlock2D")},
    "time_embedding_type": {"time_embedding_type": "fourier"},
    "center_input_sample": {"center_input_sample": True},
    "act_fn": {"act_fn": "gelu"},
    "mid_block_scale_factor": {"mid_block_scale_factor": 1.41},
    "mid_block_type": {"mid_block_type": None},
    "downsample_type": {"downsample_type": "resnet"},
    "class_embed_type": {"class_embed_type": "timestep"},
    "resnet_time_scale_shift": {"resnet_time_scale_shift": "ada_group"},
    "a head width": {"attention_head_dim": 5},
    "attn_norm_num_groups": {"attn_norm_num_groups": 2},
    "num_class_embeds": {"num_class_embeds": 1},
    "fir": {"fir": True},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_unet_cannot_express_is_named(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SMALL | REFUSED[name]))
    safetensors.torch.save_file({}, tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match=f"have in common .*{name}"):
        from_unet2d(tmp_path)


UNREPRESENTED = {
    "dims": {"dims": 1},
    "skip_scale": {"skip_scale": 0.5},
    "resample": {"resample": "mean"},
    "timesteps": {"timesteps": None},
    "condition": {"condition": 2},
    "one number of groups": {"groups": None, "multipliers": (1, 1.5)},
    "a head width": {"head_width": 64},
    "pad": {"pad": True},
}


@pytest.mark.parametrize("name", UNREPRESENTED)
def test_what_diffusers_cannot_express_is_named(name, tmp_path):
    style = {"resample": "convolution", "skip_scale": 1.0, "timesteps": {}, "groups": 4, "head_width": 8}
    with pytest.raises(ValueError, match=f"have in common .*{name}"):
        save_unet2d(UNet(**{"channels": 3, "width": 16} | style | UNREPRESENTED[name]), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_damaged_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        from_unet2d(tmp_path)
    theirs(SMALL).save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    state = safetensors.torch.load_file(file)
    safetensors.torch.save_file({k: v for k, v in state.items() if k != "conv_in.bias"}, file)
    with pytest.raises(ValueError, match=r"conv_in\.bias"):
        from_unet2d(tmp_path)
    safetensors.torch.save_file(state | {"more": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="more"):
        from_unet2d(tmp_path)
    safetensors.torch.save_file(state | {"conv_in.bias": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match=r"conv_in\.bias of shape \(8,\); got \(3,\)"):
        from_unet2d(tmp_path)


@pytest.mark.parametrize("parameterization", ["eps", "v"])
def test_a_diffusion_tells_the_network_the_step_that_it_was_trained_on(parameterization, tmp_path):
    """t in [0, 1] is step 999 t: of a carried-over network, of a UNet that counts steps, of either one loaded again, in
    every verb; and told integer steps by a scheduler of theirs, both are theirs too."""
    model = theirs(SMALL)
    x, t = torch.randn(2, model.config.in_channels, 4, 4), torch.tensor([0.25, 0.5])
    carried = from_unet2d(model)
    timesteps = {name: carried.config["timesteps"][name] for name in ("shift", "flip")}
    told = UNet(**{**carried.config, "timesteps": timesteps}).eval()
    told.load_state_dict(carried.state_dict())
    assert told.counts_steps and not carried.counts_steps and not UNet(1, 8).counts_steps
    with torch.no_grad():
        expected = model(x, 999 * t).sample
    scheduler = diffusers.DDPMScheduler()
    plan = from_scheduler(scheduler, 4)[1]
    by_steps = sample(denoiser(scheduler, model, 4), x.shape[1:], plan, 2, progress=False)
    answers = []
    for net in (carried, told):
        diffusion = gf.Diffusion(net, "vp_linear", parameterization, shape=x.shape[1:])
        gf.save(diffusion, tmp_path / str(len(answers)))
        again = gf.load(tmp_path / str(len(answers)))
        for of in (diffusion, again):
            found = of.denoiser.network(x, t)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        queue = diffusion.queue(capacity=2)
        queue.add(0, steps=3)
        key = ops.make_key(0, 2)
        with torch.no_grad():
            answers.append(
                [
                    diffusion.loss({"x": x}, key),
                    diffusion.sample(2, steps=3, progress=False),
                    diffusion.sample_adaptively(1, progress=False)[0],
                    next(iter(queue))[1],
                    diffusion.elbo(x, key, samples=2),
                ]
            )
        torch.testing.assert_close(to_unet2d(net)(x, 999 * t).sample, expected)
        found = sample(denoiser(scheduler, net, 4), x.shape[1:], plan, 2, progress=False)
        torch.testing.assert_close(found, by_steps, rtol=1e-4, atol=1e-4)
    for one, other in zip(*answers, strict=True):
        assert (one - other).abs().max() <= 0.01 * one.abs().max()  # steps of the adaptive one are not the same
