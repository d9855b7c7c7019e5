"""A checkpoint is either whole or refused: flipped bits, cuts, kills, full disks; and never a pickle."""

import json
import os
import resource
import stat
import subprocess
import sys
import textwrap

import pytest
import torch

import genfast as gf
from genfast import checkpoint
from genfast.checkpoint import MODELS, load, register, save
from genfast.common.files import CorruptCheckpoint
from genfast.nn import MLP


class Toy(torch.nn.Module):
    """A model of one network and one number."""

    def __init__(self, net, gain=1.0):
        super().__init__()
        self.net, self.gain = net, gain

    def config(self):
        return {"net": self.net, "gain": self.gain}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class Own(torch.nn.Linear):
    """A network that genfast does not know."""


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(MODELS, "Toy", Toy)


def toy(seed=0):
    net = MLP(3, width=8, depth=1)
    generator = torch.Generator().manual_seed(seed)
    for weight in net.parameters():
        weight.data.normal_(generator=generator)
    return Toy(net, gain=0.1 + seed)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def files(folder):
    return sorted(file.name for file in folder.iterdir())


def weights_of(folder):
    (file,) = folder.glob("model-*.safetensors")
    return file


def test_round_trip(tmp_path):
    model = toy()
    save(model, tmp_path / "deep" / "run", extra={"step": 7, 10: [1.5, None], 9: "x"})
    loaded = load(tmp_path / "deep" / "run")
    assert type(loaded) is Toy and loaded.gain == model.gain and same(loaded, model)
    assert loaded.net.config == model.net.config
    assert loaded.extra == {"step": 7, "10": [1.5, None], "9": "x"}
    manifest = json.loads((tmp_path / "deep" / "run" / "model.json").read_text())
    assert manifest["format"] == 2 and manifest["torch"] == torch.__version__ and manifest["genfast"]
    assert manifest["names"] is None  # of classes
    assert manifest["tensors"] == {
        name: {"dtype": "float32", "shape": list(value.shape)} for name, value in model.state_dict().items()
    }


def test_views_tied_weights_and_dtypes_survive(tmp_path):
    model = Toy(Own(4, 4).to(torch.bfloat16))
    model.net.bias = torch.nn.Parameter(model.net.weight[0])  # shares memory
    model.net.weight.data = model.net.weight.data.t()  # not contiguous
    save(model, tmp_path)
    manifest = json.loads((tmp_path / "model.json").read_text())
    assert manifest["tensors"]["net.weight"] == {"dtype": "bfloat16", "shape": [4, 4]}
    loaded = load(tmp_path, net=Own(4, 4).to(torch.bfloat16))
    assert same(loaded, model) and loaded.net.weight.dtype == torch.bfloat16


def test_save_replaces_and_removes_what_is_stale(tmp_path):
    save(toy(0), tmp_path)
    first = weights_of(tmp_path)
    (tmp_path / ".model.json.99.tmp").write_text("left by a killed process")
    (tmp_path / "notes.txt").write_text("mine")
    save(toy(1), tmp_path)
    assert not first.exists() and same(load(tmp_path), toy(1))
    assert files(tmp_path) == sorted(["model.json", "notes.txt", weights_of(tmp_path).name])
    save(toy(1), tmp_path)  # the same weights again, the same name
    assert same(load(tmp_path), toy(1))


def test_register():
    @register
    class Fresh:
        pass

    assert MODELS.pop("Fresh") is Fresh


# Damage


def test_every_flipped_bit_is_seen(tmp_path):
    save(toy(), tmp_path, extra={"step": 3})
    for file in (weights_of(tmp_path), tmp_path / "model.json"):
        good = file.read_bytes()
        generator = torch.Generator().manual_seed(0)
        for bit in torch.randint(8 * len(good), (200,), generator=generator).tolist():
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << bit % 8
            file.write_bytes(bad)
            try:
                model = load(tmp_path)
            except CorruptCheckpoint as error:
                assert file.name in str(error)
            else:  # a space of the layout: nothing of the content has changed
                assert file.name == "model.json" and json.loads(bad) == json.loads(good)
                assert same(model, toy()) and model.gain == toy().gain and model.extra == {"step": 3}
        file.write_bytes(good)
    assert same(load(tmp_path), toy())


@pytest.mark.parametrize("name", ["weights", "model.json"])
def test_every_cut_is_seen(tmp_path, name):
    save(toy(), tmp_path)
    file = weights_of(tmp_path) if name == "weights" else tmp_path / name
    good = file.read_bytes()
    for length in range(0, len(good), max(1, len(good) // 50)):
        for bad in (good[:length], good[:length] + bytes(len(good) - length)):  # cut short; tail zeroed
            file.write_bytes(bad)
            with pytest.raises(CorruptCheckpoint, match=file.name):
                load(tmp_path)


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*nowhere"):
        load(tmp_path / "nowhere")
    save(toy(), tmp_path)
    file = weights_of(tmp_path)
    file.unlink()
    with pytest.raises(CorruptCheckpoint, match=f"{file.name} is missing"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, '{"manifest_sha256": 1}', "\xff", "NaN"])
def test_junk_in_the_manifest(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(CorruptCheckpoint, match=r"model.json"):
        load(tmp_path)


def test_a_manifest_cannot_point_outside(tmp_path):
    save(toy(), tmp_path)
    manifest = json.loads((tmp_path / "model.json").read_text())
    del manifest["manifest_sha256"]
    manifest["weights"] = "../" + manifest["weights"]
    manifest["manifest_sha256"] = checkpoint._digest(manifest)
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(CorruptCheckpoint, match=r"outside"):
        load(tmp_path)


# Kills and full disks


class Killed(BaseException):
    pass


@pytest.mark.parametrize("place", range(9))
def test_killed_between_any_two_calls(tmp_path, monkeypatch, place):
    """A save that stops at its k-th call into the file system; the sixth call renames the JSON, which is the commit."""
    save(toy(0), tmp_path)
    calls = iter(range(100))

    def dying(function):
        def call(*args, **options):
            if next(calls) == place:
                raise Killed
            return function(*args, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace", "close"):
            patch.setattr(os, name, dying(getattr(os, name)))
        # SIGKILL tidies up nothing
        patch.setattr(checkpoint.Path, "unlink", dying(lambda file, missing_ok=False: None))
        with pytest.raises(Killed):
            save(toy(1), tmp_path)
    assert same(load(tmp_path), toy(0 if place < 6 else 1))
    save(toy(2), tmp_path)  # and the next save cleans up
    assert same(load(tmp_path), toy(2)) and len(files(tmp_path)) == 2


def test_disk_full_leaves_the_old_checkpoint(tmp_path):
    save(toy(0), tmp_path)
    before = files(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"model-[0-9a-f]+\.safetensors"):
            save(Toy(Own(300, 300)), tmp_path)  # 360 kB
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == before and same(load(tmp_path), toy(0))


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o007])
def test_file_modes_follow_the_umask(tmp_path, umask):
    old = os.umask(umask)
    try:
        save(toy(), tmp_path / "run")
    finally:
        os.umask(old)
    for file in (tmp_path / "run").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask


def test_killed_for_real(tmp_path):
    """SIGKILL a process that saves without a pause; what it leaves loads, and the next save tidies up."""
    script = """
        import sys, itertools, torch
        sys.path.insert(0, sys.argv[1])
        from test_checkpoint import toy, save
        for seed in itertools.count():
            save(toy(seed % 5), sys.argv[2])
            print(seed, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), os.path.dirname(__file__), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(8):
        process.stdout.readline()
    process.kill()
    process.communicate()
    assert any(same(load(tmp_path), toy(seed)) for seed in range(5))
    save(toy(7), tmp_path)
    assert len(files(tmp_path)) == 2


# Networks and classes


def test_own_network_has_to_be_passed(tmp_path):
    model = Toy(Own(2, 3))
    save(model, tmp_path)
    with pytest.raises(ValueError, match=r"net.*'Own'.*net=Own\(\.\.\.\)"):
        load(tmp_path)
    net = Own(2, 3)
    loaded = load(tmp_path, net=net)
    assert loaded.net is net and same(loaded, model)
    with pytest.raises(ValueError, match=r"net.*do not fit(.|\n)*size mismatch"):
        load(tmp_path, net=Own(2, 4))
    with pytest.raises(ValueError, match=r"net.*'encoder'"):
        load(tmp_path, net={"encoder": Own(2, 3)})


def test_a_class_that_only_shares_a_name_is_not_ours(tmp_path):
    stranger = type("MLP", (Own,), {"config": {"features": 3}})
    save(Toy(stranger(2, 2)), tmp_path)
    with pytest.raises(ValueError, match=r"net.*'MLP'"):
        load(tmp_path)


def test_several_networks(tmp_path):
    model = Toy(Own(2, 2), gain=MLP(3, width=8, depth=1))
    save(model, tmp_path)
    with pytest.raises(ValueError, match=r"net.*2 networks"):
        load(tmp_path, net=Own(2, 2))
    assert same(load(tmp_path, net={"net": Own(2, 2)}), model)


def test_unknown_class_and_other_formats(tmp_path, monkeypatch):
    save(toy(), tmp_path)
    with monkeypatch.context() as patch:
        patch.delitem(MODELS, "Toy")
        with pytest.raises(ValueError, match=r"'Toy'.*known are"):
            load(tmp_path)
    for other, words in ((1, "an older genfast: train or save it again"), (3, "a newer genfast: upgrade this one")):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "FORMAT", other)
            save(toy(), tmp_path)
        with pytest.raises(ValueError, match=rf"model\.json was written by {words}\. It has format {other}"):
            load(tmp_path)


def test_loading_imports_the_family(tmp_path):
    """In a process that has seen none yet; and each that genfast has is known by its place."""
    for name in gf.__all__:  # all that registers a class
        getattr(gf, name)
    own = {name for name, kind in MODELS.items() if kind.__module__.startswith("genfast.")}
    assert own == set(checkpoint.HOMES)
    saved = gf.PPCA(1).fit(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)))
    save(saved, tmp_path)
    program = "import sys, genfast; print(repr(genfast.load(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout.strip() == repr(saved), done.stderr


@pytest.mark.parametrize(
    "model, extra, words",
    [
        (torch.nn.Linear(1, 1), None, r"model.*config\(\).*Linear"),
        (Toy(Own(1, 1), gain=torch.ones(1)), None, "model.*Toy.config.*Tensor"),
        (Toy(Own(1, 1), gain=float("nan")), None, "model.*Toy.config"),
        (Toy(Own(1, 1)), {"loss": float("inf")}, "extra"),
        (Toy(Own(1, 1)), object(), "extra.*object"),
    ],
)
def test_what_cannot_be_described_is_refused_before_writing(tmp_path, model, extra, words):
    with pytest.raises(TypeError, match=words):
        save(model, tmp_path / "run", extra=extra)
    assert not (tmp_path / "run").exists()


def test_a_pickle_is_never_opened(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    save(toy(), tmp_path)
    for file in (weights_of(tmp_path), tmp_path / "model.json"):
        good = file.read_bytes()
        torch.save(Payload(), file)
        with pytest.raises(CorruptCheckpoint):
            load(tmp_path)
        file.write_bytes(good)
    assert not (tmp_path / "ran").exists()
