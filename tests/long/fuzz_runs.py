"""Run folders that are damaged at random: what comes of going on with them.

    python tests/long/fuzz_runs.py [--n 600] [--seed 0]

Half of them flip a bit; the others zero the tail of a file, cut it, or put something hostile in its place: a header
with a seal that fits, a file of another run, a pickle, a pipe, a link. After each the folder is opened as by `fit`, and
then either an error names a file, or the run goes on from a state that was saved, bit for bit. What is neither ends the
program, as does what takes 5 s or 256 MB, or runs code of a file. Printed is how often it came to what.
"""

import argparse
import collections
import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path

import torch

import genfast as gf
from genfast.common.files import CorruptCheckpoint
from genfast.common.sealed import SEAL, sealed
from genfast.training.description import describe_run
from genfast.training.run_file import rebuilt_model
from genfast.training.run_folder import RunFolder

STEPS = (10, 20, 30)
JUNK = [
    None,
    True,
    -1,
    0,
    3,
    2**40,
    2**70,
    1e308,
    "",
    "../../x",
    "load",
    [],
    [1, "x"],
    {},
    {"float": "nan"},
    [[[]]] * 9,
]


class Payload:
    """What a pickle would do, were it ever read."""

    ran = False

    def __reduce__(self):
        return _run, ()


def _run():
    Payload.ran = True


def new_run(path, seed=0):
    """A run of three states, a model and a log; and its description."""
    net = gf.nn.MLP(2, width=8, depth=1)
    model = gf.Diffusion(net, shape=(2,))
    points = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    description = describe_run(model, gf.data.arrays(points), {"steps": 100, "batch": 4, "seed": seed})
    folder = RunFolder(path, keep=3)
    with folder.claimed():
        folder.open(description)
        for step in STEPS:
            folder.log({"step": step, "loss": 1 / step})
            folder.save(step, tensors(step), {"loss": 1 / step})
        folder.save_model(model, step)
    return description


def tensors(step):
    return {"w": torch.full((300,), step / 7), "step": torch.tensor(step), "half": torch.ones(5, 3).bfloat16() * step}


def files(path):
    """Those that decide about going on: the model is another matter (test_checkpoint.py)."""
    return [path / "run.json", path / "log.jsonl", *sorted(path.glob("state/*/*"))]


def flipped(file, draw):
    content = bytearray(file.read_bytes())
    place = draw.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    file.write_bytes(content)


def zeroed(file, draw):
    content = file.read_bytes()
    keep = draw.randrange(len(content))
    file.write_bytes(content[:keep] + bytes(len(content) - keep))


def cut(file, draw):
    content = file.read_bytes()
    file.write_bytes(content[: draw.randrange(len(content))])


def resealed(file, draw):
    """Something else at one place of a sealed file, with a seal that fits."""
    if file.suffix != ".json":
        file = file.parent / "state.json" if file.suffix == ".bin" else _top(file) / "run.json"
    content = json.loads(file.read_text())
    del content[SEAL]
    holder = content
    while True:
        key = draw.choice([*holder] if isinstance(holder, dict) else range(len(holder)))
        inside = holder[key]
        if not (isinstance(inside, dict | list) and inside) or draw.random() < 0.2:
            break
        holder = inside
    holder[key] = draw.choice(JUNK)
    file.write_text(json.dumps(sealed(content)))


def swapped(file, draw):
    """The file of another run, or of another place in this one."""
    others = [other for other in files(_top(file).parent / "other") if other.name == file.name]
    others += [other for other in files(_top(file)) if other != file]
    shutil.copy(draw.choice(others), file)


def pickled(file, draw):
    file.write_bytes(pickle.dumps(Payload()))


def no_file(file, draw):
    """A pipe, a folder, a link to nothing, to itself or to no end of zeros; a file that claims to be vast."""
    file.unlink()
    target = draw.choice(["pipe", "folder", "vast", "nowhere", file.name, "/dev/zero"])
    if target == "pipe":
        os.mkfifo(file)
    elif target == "folder":
        file.mkdir()
    elif target == "vast":
        with open(file, "wb") as opened:
            opened.truncate(2**40)
    else:
        file.symlink_to(target)


DAMAGES = {flipped: 8, zeroed: 2, cut: 2, resealed: 2, swapped: 1, pickled: 0.5, no_file: 0.5}  # and how often


def _top(file):
    """The folder of the run."""
    return next(parent for parent in file.parents if parent.parent.name == "runs")


def opened(path, description, forged=False):
    """What came of it, in a word; an exception for what must not. forged: whether the seal fits what is in the files,
    so that nobody can know."""
    try:
        folder = RunFolder(path, keep=3)
        folder.look(description)
        with folder.claimed(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            start = folder.open(description)
            rebuilt_model(path)
            history = folder.history()
    except Exception as error:
        if isinstance(error, CorruptCheckpoint | OSError):
            named = any(file.name in str(error) for file in files(path)) and str(path) in str(error)
        else:
            named = isinstance(error, ValueError) and str(path) in str(error)
        if named:
            return type(error).__name__
        raise
    if forged:
        return "gone on with"
    if start.step not in STEPS:
        raise AssertionError(f"it begins at step {start.step}")
    expected = tensors(start.step)
    same = start.tensors.keys() == expected.keys()
    same = same and all(torch.equal(start.tensors[name], value) for name, value in expected.items())
    if not same or start.numbers != {"loss": 1 / start.step}:
        raise AssertionError(f"the state of step {start.step} is another one")
    if not caught and [line["step"] for line in history] != [step for step in STEPS if step <= start.step]:
        raise AssertionError(f"the log is {history}")
    if start.step != STEPS[-1] and not caught:
        raise AssertionError("it goes on from an older state without a word")
    return f"step {start.step}{', with a warning' if caught else ''}"


def _too_long(*_):
    raise AssertionError("it takes more than 5 s")


def fuzz(n, folder, seed=0):
    """How often n damages came to what. folder: an empty one, to work in."""
    whole, other, path = (Path(folder) / "runs" / name for name in ("whole", "other", "damaged"))
    description = new_run(whole)
    new_run(other, seed=1)
    draw, found = random.Random(seed), collections.Counter()
    signal.signal(signal.SIGALRM, _too_long)
    opened(shutil.copytree(whole, path), description)  # what torch takes at its first use counts as nobody's
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(n):
        shutil.rmtree(path)
        shutil.copytree(whole, path)
        (damage,) = draw.choices([*DAMAGES], [*DAMAGES.values()])
        file = draw.choice(files(path))
        at = f"{damage.__name__} {file.relative_to(path)}"
        damage(file, draw)
        signal.alarm(5)
        try:
            found[damage.__name__, opened(path, description, damage is resealed)] += 1
        except Exception as error:
            raise AssertionError(f"{at}: {error!r}") from error
        finally:
            signal.alarm(0)
        if Payload.ran:
            raise AssertionError(f"{at}: it was unpickled")
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > 256 << 10:
            raise AssertionError(f"{at}: it took more than 256 MB")
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=600, help="damages")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for (damage, result), times in sorted(fuzz(options.n, folder, options.seed).items()):
            print(f"{damage:<10} {result:<28} {times:>5}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
