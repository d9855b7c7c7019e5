"""Several processes give the report of one, bit for bit."""

import pytest
import torch
from several import answers, start
from toys import Ring

import genfast as gf
from genfast.common import processes
from genfast.evaluation.chunks import stream
from genfast.evaluation.reading import Reader
from genfast.evaluation.sources import as_source

PROGRAM = """
import sys
from pathlib import Path
import torch
from toys import CountOnly, Ring, normal
import genfast as gf
from genfast.training.encoded import encoded_once

torch.set_num_threads(1)
torch.manual_seed(0)
model = gf.Diffusion(gf.nn.UNet(channels=1, width=4, multipliers=(1,), classes=2), shape=(1, 8, 8))
images, label = normal(150, 64).view(-1, 1, 8, 8), torch.arange(150) % 2
metrics = ["kernel_distance", "precision_recall", "memorization", "likelihood"]
options = {"metrics": metrics, "likelihood": {"n": 66, "steps": 2}, "out": sys.argv[1], "progress": False}
reports = [
    gf.evaluate(model, (images, label), n=200, train=images[:70] + 0.1, sampling={"steps": 2}, **options),
    gf.evaluate(Ring(), Ring().sample(90, seed=3), n=40, metrics="frechet", progress=False),
    gf.evaluate(CountOnly(2), Ring().sample(90, seed=3), n=100, metrics="frechet", progress=False),
]
print("\\n".join(report.json() for report in reports))
vae = gf.vae.autoencoder_kl((8, 8), 1, latent=2, width=4, multipliers=(1, 2))
latent = gf.LatentDiffusion(vae, gf.Diffusion(gf.nn.MLP(features=32, width=4, depth=1)))
for folder in (None, Path(sys.argv[1])):
    print(gf.features.fingerprint({"x": encoded_once(latent, gf.data.Data(images), folder).x}))
"""


@pytest.mark.slow
def test_two_processes_give_the_report_of_one(tmp_path):
    """Images by a diffusion model, so few samples that one process has none, and a model that takes a number only; and
    the latents of one, in memory and in a file."""
    started = [process for ranks in (1, 2) for process in start(["-c", PROGRAM, tmp_path / f"{ranks}-RANK"], ranks)]
    alone, *both = answers(started)
    assert both == [alone, alone]
    assert alone.count('"schema"') == 3 and len(set(alone.splitlines()[-2:])) == 1
    # The first one writes.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-0", "2-0"]
    one, two = (tmp_path / name for name in ("1-0", "2-0"))
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir()) and "samples.png" in names
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_a_process_draws_its_share_only(monkeypatch):
    """And all the shares are all the samples, in order."""
    parts = []
    for rank in range(3):
        monkeypatch.setattr(processes, "world", lambda rank=rank: (rank, 3))
        monkeypatch.setattr(processes, "gather", lambda part: part)
        source = as_source(Ring(), gf.data.Data(Ring().sample(9)), Reader(), n=300, seed=0, settings=None)
        parts.append(stream(source, lambda x: x, device="cpu", what="samples", progress=False))
    assert [len(part) for part in parts] == [64, 128, 108] and torch.equal(torch.cat(parts), Ring().sample(300))


def test_an_error_of_one_is_one_of_all(monkeypatch):
    """Also one that cannot be sent as it is."""

    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__(one)

    def fail():
        raise Odd("words", 2)

    sent = []
    monkeypatch.setattr(processes, "gather", lambda part: sent.append(part) or [None, KeyError("of another"), *part])
    with pytest.raises(Odd):
        processes.together(fail)
    with pytest.raises(KeyError, match="of another"):
        processes.together(lambda: None)
    (error,), (nothing,) = sent
    assert type(error) is RuntimeError and str(error) == "Odd: words" and nothing is None
    monkeypatch.undo()
    assert processes.together(lambda: 7) == 7


def test_without_others():
    assert processes.world() == (0, 1) and processes.gather([torch.ones(1)]) == [torch.ones(1)]
    assert gf.diffusion.sampling.share(10).tolist() == list(range(10))
