"""Files that are whole but foreign: every one that cannot be loaded is refused in words, before it takes memory."""

import copy
import hashlib
import json
import os
import random
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch

import genfast as gf
from genfast import checkpoint
from genfast.common.files import CorruptCheckpoint
from genfast.common.sealed import sealed

JUNK = [None, True, -1, 0, 3, 9000, 2**70, 1e308, "", "x", [], [1, "x"], {}, {"network": "MLP", "config": {}}]


def models():
    perceptron = {"width": 4, "depth": 1}
    yield gf.Diffusion(gf.nn.MLP(3, **perceptron, classes=2), shape=(3,))
    yield gf.VAE(gf.nn.FeedForward(3, 4), gf.nn.FeedForward(2, 3), latent=2, likelihood="learned_variance", shape=(3,))
    yield gf.GAN(
        gf.nn.FeedForward(2, 3, width=4), gf.nn.FeedForward(3, 1, width=4, fourier=2), latent=2, spectral_norm=True
    )
    yield gf.Diffusion(gf.nn.UNet(channels=1, width=8, multipliers=(1,), blocks=1), "flow")
    yield gf.GaussianMixture.from_parameters(torch.ones(2) / 2, torch.eye(2), torch.ones(2, 2))


def read(folder):
    """The manifest without its seal, and the tensors."""
    manifest = json.loads((folder / "model.json").read_text())
    del manifest["manifest_sha256"]
    return manifest, safetensors.torch.load_file(folder / manifest["weights"])


def write(folder, manifest, weights=None):
    """A manifest with a seal of its own, and weights with theirs."""
    if weights is not None:
        digest = hashlib.sha256(weights).hexdigest()
        manifest = manifest | {"weights": f"model-{digest[:16]}.safetensors", "sha256": digest}
        (folder / manifest["weights"]).write_bytes(weights)
    (folder / "model.json").write_text(json.dumps(sealed(manifest) if isinstance(manifest, dict) else manifest))


def places(value, path=()):
    """The paths of all that a manifest holds."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(item, (*path, key))


def changed(manifest, path, junk):
    """A copy with something else at a place, or nothing where junk is `...`."""
    answer = copy.deepcopy(manifest)
    holder = answer
    for key in path[:-1]:
        holder = holder[key]
    if junk is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = copy.deepcopy(junk)
    return answer


def refused(folder):
    """The error of loading, if there is one; it has to be in words, quick, and without a trace."""
    state, start = torch.get_rng_state(), time.monotonic()
    try:
        gf.load(folder)
    except CorruptCheckpoint as error:
        assert str(folder) in str(error) and "read by 0.1" in str(error) and "of genfast " in str(error)
        assert "model.json" in str(error) or ".safetensors" in str(error)
        return error
    except ValueError as error:
        assert str(folder) in str(error)
        return error
    finally:
        assert torch.equal(torch.get_rng_state(), state) and time.monotonic() - start < 5


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_foreign_manifests(tmp_path, number):
    gf.save(list(models())[number], tmp_path, extra={"step": 3})
    manifest, _ = read(tmp_path)
    assert refused(tmp_path) is None
    cases = [(path, junk) for path in places(manifest) for junk in (..., *JUNK)]
    kept = {("extra",), ("extra", "step"), ("torch",), ("genfast",)}  # where anything JSON-able is as good
    chosen = random.Random(number).sample(cases, min(150, len(cases)))
    for path, junk in chosen + [case for case in cases if len(case[0]) == 1]:
        write(tmp_path, changed(manifest, path, junk))
        error = refused(tmp_path)
        if len(path) == 1 and (path not in kept or junk is ...):
            assert error is not None or (path == ("names",) and junk in (None, [])), (path, junk)
    for whole in (*JUNK, [manifest]):
        write(tmp_path, whole)
        assert isinstance(refused(tmp_path), CorruptCheckpoint)


def test_foreign_tensors(tmp_path):
    """Names, shapes and dtypes are those of the model, whatever the manifest says."""
    gf.save(gf.VAE(gf.nn.FeedForward(3, 4), gf.nn.FeedForward(2, 3), latent=2, shape=(3,)), tmp_path)
    manifest, state = read(tmp_path)
    name = "decoder.layers.0.weight"
    for other, words in [
        ({k: v for k, v in state.items() if k != name}, f"1 missing: {name}"),
        (state | {"more": torch.zeros(1)}, "1 unexpected: more"),
        (state | {name: state[name].T.contiguous()}, rf"1 misshapen: {name} of shape \(2, 64\) instead of"),
        (state | {name: torch.zeros(0)}, rf"1 misshapen: {name} of shape \(0,\)"),
        (state | {name: state[name].long()}, rf"1 of another kind: {name} of int64 instead of float32"),
        ({}, r"18 missing: \S+, \S+, \S+, \.\.\."),
    ]:
        said = manifest | {"tensors": {k: checkpoint._described_tensor(v) for k, v in other.items()}}
        write(tmp_path, said, safetensors.torch.save(other))
        with pytest.raises(CorruptCheckpoint, match=rf"model\.json does not fit its weights: .*{words}"):
            gf.load(tmp_path)
        write(tmp_path, manifest, safetensors.torch.save(other))
        with pytest.raises(CorruptCheckpoint, match=r"safetensors holds other tensors than model\.json says"):
            gf.load(tmp_path)


def test_foreign_names(tmp_path):
    """Of classes: as many as there are, and distinct."""
    gf.save(gf.Diffusion(gf.nn.MLP(3, width=4, depth=1, classes=2), shape=(3,)), tmp_path)
    manifest, _ = read(tmp_path)
    for names in (["cat", "dog"], None):
        write(tmp_path, manifest | {"names": names})
        assert refused(tmp_path) is None
    for names in (["cat"], ["cat", "cat"], ["cat", "dog", "eel"], [], [0, 1], [["cat"], ["dog"]]):
        write(tmp_path, manifest | {"names": names})
        assert isinstance(refused(tmp_path), CorruptCheckpoint), names


def test_foreign_headers(tmp_path):
    """Of a safetensors file, with the right sha256."""
    gf.save(gf.Diffusion(gf.nn.MLP(3, width=4, depth=1), shape=(3,)), tmp_path)
    manifest, state = read(tmp_path)
    good = safetensors.torch.save(state)
    size = int.from_bytes(good[:8], "little")
    header, data = json.loads(good[8 : 8 + size]), good[8 + size :]
    names = sorted(header)

    def file(content, data=data):
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        return len(text).to_bytes(8, "little") + text + data

    def entry(**changes):
        return header | {names[0]: header[names[0]] | changes}

    bad = [b"", b"\0" * 8, good[:5], good[: 8 + size // 2], good[:-1], (2**63).to_bytes(8, "little") + good[8:]]
    bad += [file(b"[]"), file(b"null"), file(b"{" * 1000), file(b"\xff\xfe"), file(b"[" * 10**5), good + b"more"]
    bad += [file(dict.fromkeys(names, junk)) for junk in JUNK]
    bad += [file({names[0]: header[names[0]]}), file({}), file({}, b"")]
    for key in ("dtype", "shape", "data_offsets"):
        bad += [file(entry(**{key: junk})) for junk in JUNK]
        bad += [file(header | {names[0]: {k: v for k, v in header[names[0]].items() if k != key}})]
    first, last = header[names[0]]["data_offsets"]
    overlapping = [
        [first, last + 4],
        [first + 4, last + 4],
        [last, first],
        [0, 2**62],
        header[names[-1]]["data_offsets"],
    ]
    bad += [file(entry(data_offsets=offsets)) for offsets in overlapping]
    bad += [file(entry(shape=shape)) for shape in ([2**32, 2**32], [2**63], [-1], [1] * 200)]
    bad += [file(entry(dtype=dtype)) for dtype in ("F64", "F4", "F8_E8M0", "BOOL", "C64", "float32")]
    generator = random.Random(0)
    for _ in range(60):
        garbled = bytearray(good)
        for _ in range(generator.randint(1, 4)):
            garbled[generator.randrange(8 + size)] = generator.randrange(256)
        bad.append(bytes(garbled))
    for weights in bad:
        write(tmp_path, manifest, weights)
        assert isinstance(refused(tmp_path), CorruptCheckpoint) or weights == good, weights[:200]


def test_odd_files(tmp_path):
    """In the place of model.json, or of its folder."""
    file = tmp_path / "run" / "model.json"
    gf.save(gf.PPCA(1).fit(torch.randn(20, 3)), tmp_path / "run")
    text = file.read_text()
    file.write_bytes(text.encode("utf-16"))  # JSON as well
    assert gf.load(tmp_path / "run").is_fitted
    for bad in (b"", text.encode("utf-16")[:-3], text.encode("utf-32")[2:], b'{"a":' * 10**5, b"1" * 5000):
        file.write_bytes(bad)
        assert isinstance(refused(tmp_path / "run"), CorruptCheckpoint)
    file.unlink()
    file.mkdir()
    with pytest.raises(CorruptCheckpoint, match=r"run/model\.json cannot be read: Is a directory"):
        gf.load(tmp_path / "run")
    file.rmdir()
    file.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*run: model\.json is a link to nothing"):
        gf.load(tmp_path / "run")
    file.unlink()
    file.symlink_to(file)
    with pytest.raises(CorruptCheckpoint, match=r"run/model\.json cannot be read: Too many levels"):
        gf.load(tmp_path / "run")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*run: model\.json is not there"):
        gf.load(tmp_path / "run")
    file.write_text(text)
    with pytest.raises(ValueError, match=r"path must be the folder of a checkpoint; got .*model\.json, a file"):
        gf.load(file)


@pytest.mark.parametrize("name", ["model.json", "weights"])
def test_files_that_cannot_be_read(tmp_path, monkeypatch, name):
    gf.save(gf.PPCA(1).fit(torch.randn(20, 3)), tmp_path)
    file = tmp_path / (read(tmp_path)[0]["weights"] if name == "weights" else name)
    plain = checkpoint.Path.read_bytes

    def read_bytes(path):
        if path == file:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(checkpoint.Path, "read_bytes", read_bytes)
    with pytest.raises(CorruptCheckpoint, match=f"{file.name} cannot be read: Permission denied"):
        gf.load(tmp_path)


PEAK = """
import resource, sys, torch, genfast as gf
gf.load(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for folder in sys.argv[2:]:
    try:
        gf.load(folder)
    except gf.common.files.CorruptCheckpoint as error:
        print(str(error)[-90:])
    else:
        print("loaded")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_small_file_does_not_take_much_memory(tmp_path):
    """Whatever its config asks for; nor hours."""
    net = {"width": 9000, "depth": 10**4, "classes": 10**9, "features": 10**10}
    gf.save(gf.Diffusion(gf.nn.MLP(3, width=4, depth=1), shape=(3,)), tmp_path / "good")
    manifest, _ = read(tmp_path / "good")
    weights = (tmp_path / "good" / manifest["weights"]).read_bytes()
    folders = [tmp_path / "good"]
    for name, value in net.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name, changed(manifest, ("config", "net", "config", name), value), weights)
        folders.append(tmp_path / name)
    for name, value in {"shape": [10**12], "components": 10**9}.items():
        gf.save(gf.GaussianMixture(2).fit(torch.randn(30, 2)), tmp_path / name)
        write(tmp_path / name, changed(read(tmp_path / name)[0], ("config", name), value))
        folders.append(tmp_path / name)
    command = [sys.executable, "-c", PEAK, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    *errors, peak = done.stdout.splitlines()
    assert done.returncode == 0 and len(errors) == 6 and "loaded" not in errors, done.stderr
    assert int(peak) < 100_000, f"{peak} kB"
