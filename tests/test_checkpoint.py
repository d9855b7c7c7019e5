"""A checkpoint is either whole or refused: flipped bits, cuts, kills, full disks; and never a pickle."""

import json
import os
import resource
import stat
import subprocess
import sys
import textwrap
import threading

import pytest
import torch

import genfast as gf
from genfast import checkpoint
from genfast.checkpoint import MODELS, load, register, save
from genfast.common import locks
from genfast.common.files import CorruptCheckpoint
from genfast.common.sealed import sealed
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
    """All but the file of the lock, which stays."""
    return sorted(file.name for file in folder.iterdir() if file.name != ".lock")


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


def test_what_it_did_not_write_stays(tmp_path):
    """Shards and copies of others, whatever they are called; and what a model.json that is not whole names."""
    names = ["model-00001-of-00002.safetensors", "model-best.safetensors", "model-0123456789abcdef.safetensors"]
    names += ["model.safetensors", ".model.notes", ".other.json.7.tmp", "model-best.safetensors.tmp"]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".model-folder.tmp").mkdir()
    for seed in range(3):
        save(toy(seed), tmp_path)
    assert same(load(tmp_path), toy(2)) and len(files(tmp_path)) == len(names) + 3
    assert all((tmp_path / name).read_text() == "mine" for name in names)

    manifest = json.loads((tmp_path / "model.json").read_text())
    kept = [manifest["weights"], "notes.txt", "../outside.txt"]
    for name in kept[1:]:
        (tmp_path / "deep").mkdir(exist_ok=True)
        (tmp_path / "deep" / name).write_text("mine")
    for weights in (manifest["weights"], kept):  # damaged, since its sha256 is another one's; or not its own
        (tmp_path / "deep" / manifest["weights"]).write_text("mine")
        content = sealed({"weights": weights})
        if isinstance(weights, str):
            content["manifest_sha256"] = sealed({})["manifest_sha256"]
        (tmp_path / "deep" / "model.json").write_text(json.dumps(content))
        save(toy(0), tmp_path / "deep")
        assert (tmp_path / "deep" / "notes.txt").exists() and (tmp_path / "outside.txt").exists()
        assert (tmp_path / "deep" / manifest["weights"]).exists() == isinstance(weights, str)


# Two writers


HAMMER = """
    import sys, torch
    sys.path.insert(0, sys.argv[1])
    from test_checkpoint import toy, save
    torch.set_num_threads(1)
    models = [toy(int(sys.argv[3]) + k) for k in range(3)]
    print("ready", flush=True)
    sys.stdin.readline()
    for k in range(int(sys.argv[4])):
        save(models[k % 3], sys.argv[2], extra=[int(sys.argv[3]), k])
"""


def python(script, *arguments):
    command = [sys.executable, "-c", textwrap.dedent(script), os.path.dirname(__file__), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_writers_destroy_nothing(tmp_path):
    """Two processes save into one folder as fast as they can, while a third one reads."""
    writers = [python(HAMMER, tmp_path, first, 200) for first in (0, 10)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n", writer.stderr.read()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if (tmp_path / "model.json").exists():
            model = load(tmp_path)
            first, k = model.extra
            assert same(model, toy(first + k % 3))
            seen.add(first)
    for writer in writers:
        _, error = writer.communicate()
        assert writer.returncode == 0, error
    assert seen == {0, 10} and load(tmp_path).extra[1] == 199 and len(files(tmp_path)) == 2


def test_two_threads_destroy_nothing(tmp_path):
    errors = []

    def write(first):
        try:
            for k in range(30):
                save(toy(first + k % 3), tmp_path)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(files(tmp_path)) == 2
    assert any(same(load(tmp_path), toy(seed)) for seed in (2, 12))


def test_save_waits_for_another_writer_and_load_does_not(tmp_path, monkeypatch):
    save(toy(0), tmp_path)
    monkeypatch.setattr(locks, "WAIT", 0.05)
    holder = python("import sys; from genfast.common.locks import run_in\nwith run_in(sys.argv[2]):\n"
                    "    print('held', flush=True); sys.stdin.readline()", tmp_path)  # fmt: skip
    assert holder.stdout.readline() == "held\n", holder.stderr.read()
    with pytest.raises(TimeoutError, match=rf"{tmp_path.name} is being .* by process {holder.pid} on \S+, for 0.05 s"):
        save(toy(1), tmp_path)
    assert same(load(tmp_path), toy(0))
    monkeypatch.setattr(locks, "WAIT", 60.0)
    threading.Timer(0.2, holder.kill).start()  # SIGKILL: nobody but the kernel frees the lock
    save(toy(1), tmp_path)
    assert same(load(tmp_path), toy(1)) and holder.communicate() and holder.returncode == -9


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
    (tmp_path / "model.json").write_text(json.dumps(sealed(manifest)))
    with pytest.raises(CorruptCheckpoint, match=r"outside"):
        load(tmp_path)


# Kills and full disks


class Killed(BaseException):
    pass


@pytest.mark.parametrize("place", range(8))
def test_killed_between_any_two_calls(tmp_path, monkeypatch, place):
    """A save that stops at its k-th call into the file system; the fourth renames the JSON, which is the commit."""
    save(toy(0), tmp_path)
    calls, names = iter(range(100)), []

    def dying(name, function):
        def call(*args, **options):
            if next(calls) == place:
                raise Killed
            names.append(name)
            return function(*args, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace", "close"):
            patch.setattr(os, name, dying(name, getattr(os, name)))

        def unlink(file, missing_ok=False):
            if next(calls) >= place:  # SIGKILL tidies up nothing
                raise Killed
            names.append("unlink")
            os.unlink(file)

        patch.setattr(checkpoint.Path, "unlink", unlink)
        with pytest.raises(Killed):
            save(toy(1), tmp_path)
    order = ["fsync", "fsync", "replace", "replace", "fsync", "close", "unlink", "unlink"]
    assert names[:place] == order[:place]
    assert same(load(tmp_path), toy(0 if place < 4 else 1))
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
    with pytest.raises(
        ValueError, match=r"net.*do not fit.*2 misshapen: net\.weight of shape \(3, 2\) instead of \(4, 2\)"
    ):
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


def test_devices_that_are_not_there(tmp_path):
    gf.save(gf.Diffusion(gf.nn.MLP(2, width=8, depth=1), shape=(2,)), tmp_path)
    words = "^device must be a device that torch has here, such as cpu; got 'foo'$"
    for call in (
        lambda: gf.load(tmp_path, device="foo"),
        lambda: gf.load(tmp_path / "nothing", device="foo"),
        lambda: gf.Fit(gf.load(tmp_path), torch.zeros(4, 2), steps=1, device="foo"),
        lambda: gf.ops.make_key(0, 3, "foo"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            call()
