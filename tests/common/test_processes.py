"""Several processes give the report of one, bit for bit."""

import pytest
import torch
from ranks import free_port, outputs, start
from toys import Ring

import genfast as gf
from genfast.common import processes
from genfast.evaluation.chunks import stream
from genfast.evaluation.reading import Reader
from genfast.evaluation.sources import as_source

PROGRAM = """
import sys
import torch
from toys import CountOnly, Ring, normal
import genfast as gf

torch.set_num_threads(1)
torch.manual_seed(0)
model = gf.Diffusion(gf.nn.UNet(channels=1, width=4, multipliers=(1,), classes=2), shape=(1, 8, 8))
images, label = normal(150, 64).view(-1, 1, 8, 8), torch.arange(150) % 2
options = {"metrics": ["kernel_distance", "precision_recall", "memorization"], "out": sys.argv[1], "progress": False}
reports = [
    gf.evaluate(model, (images, label), n=200, train=images[:70] + 0.1, sampling={"steps": 2}, **options),
    gf.evaluate(Ring(), Ring().sample(90, seed=3), n=40, metrics="frechet", progress=False),
    gf.evaluate(CountOnly(2), Ring().sample(90, seed=3), n=100, metrics="frechet", progress=False),
]
print("\\n".join(report.json() for report in reports))
"""


@pytest.mark.slow
def test_two_processes_give_the_report_of_one(tmp_path):
    """Images by a diffusion model, so few samples that one process has none, and a model that takes a number only."""
    port = free_port()
    started = [start(PROGRAM, 0, 1, port, tmp_path / "0-of-1")]
    started += [start(PROGRAM, rank, 2, port, tmp_path / f"{rank}-of-2") for rank in range(2)]
    alone, *both = outputs(started)
    assert both == [alone, alone]
    assert alone.count('"schema"') == 3
    # The first one writes.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-of-1", "0-of-2"]
    one, two = (tmp_path / name for name in ("0-of-1", "0-of-2"))
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


def test_without_others():
    assert processes.world() == (0, 1) and processes.gather([torch.ones(1)]) == [torch.ones(1)]
    assert gf.diffusion.sampling.share(10).tolist() == list(range(10))
