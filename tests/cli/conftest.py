"""The command in this process."""

import subprocess
import sys

import pytest
import torch

import genfast as gf
from genfast import cli


@pytest.fixture
def genfast(monkeypatch, capsys):
    """The command in this process, as one that is completed: a launch would take 2 s."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["genfast", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as left:
            code = left.code or 0
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, code, out, err)

    return run


@pytest.fixture
def pictures(tmp_path):
    """A folder of 8 x 8 pictures in two classes, bright and dark."""
    generator = torch.Generator().manual_seed(0)
    for name, mean in (("bright", 0.5), ("dark", -0.5)):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(12):
            x = mean + torch.rand(1, 1, 8, 8, generator=generator) / 2
            gf.data.save_png(folder / f"{number}.png", x, padding=0)
    return tmp_path / "pictures"
