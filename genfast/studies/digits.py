"""Train a class-conditional diffusion model on scikit-learn's real handwritten digits, draw new ones, and judge them.

    python -m genfast.studies.digits --out out

writes samples.png, trajectory.png, training.png, samples.npz, metrics.json, evaluation/ and the run, model/, in place
of those of an earlier demo (marked by .demo.json; files of others there are an error), and prints what
`genfast.evaluate` finds in pixels: every number with an interval, beside what real digits are given in the place of the
samples. Two more judges: a support-vector classifier fitted to the real digits says whether a sample looks like the
digit that was asked for, and the nearest real neighbors tell a new digit from a copy.
"""

import io
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import tyro

import genfast as gf

from ..checkpoint import WEIGHTS
from ..common.files import to_json, writable_folder, write_file
from ..common.locks import run_in

MARK, SCHEMA = ".demo.json", "genfast.demo"  # a file in every folder that the demo has taken
WRITES = {  # folder: what the demo writes there
    ".": ("samples.png", "trajectory.png", "training.png", "samples.npz", "metrics.json"),
    "model": ("run.json", "log.jsonl", "model.json", "state", "samples"),
    "evaluation": ("report.json", "samples.png", "memorization.png", "report.png"),
}
STEPS = 600
PIXELS = 4  # squared distances in [-1, 1] over those in [0, 1]
SAMPLING = {"steps": 10, "guidance": 1.25}


def build() -> gf.Diffusion:
    """A U-Net of 312,609 weights, 16 channels at 8x8 and 48 at 4x4; all else is measured or a default."""
    return gf.Diffusion(gf.nn.UNet(channels=1, width=16, multipliers=(1, 3), classes=10))


def train(model: gf.Diffusion, data: gf.data.Data, seed: int, steps: int, out: Path | None) -> list[dict]:
    """The logs of a run of `steps` steps; Ctrl-C leaves a checkpoint in `out`."""
    return gf.fit(model, data, steps=steps, lr=3e-3, seed=seed, out=out, log_every=20)


def take(out: Path) -> None:
    """Make or take over the folder of the demo, and remove the run of an earlier one, also of one that was killed.

    What lies there is the demo's where it has left its mark beside it. Raises FileExistsError, before anything is
    written, where files of others have the names of the demo's, or lie in the folder of its run, and BlockingIOError
    while a demo trains there.
    """
    writable_folder("out", out)
    for folder, names in WRITES.items():
        there = [name for name in names if os.path.lexists(out / folder / name)]
        if _marked(out / folder / MARK):
            there = []
        if folder == "model" and (out / folder).is_dir():
            there += sorted(name for name in os.listdir(out / folder) if not _is_of_run(name))
        if there:
            raise FileExistsError(
                f"out must have no files of others where the demo writes; got {', '.join(there)} in {out / folder}, "
                "which it did not write: pass another one, or move them away"
            )
    model = out / "model"
    model.mkdir(exist_ok=True)
    with run_in(model):
        for folder in WRITES:
            (out / folder).mkdir(exist_ok=True)
            write_file(out / folder / MARK, json.dumps({"schema": SCHEMA}).encode())
        for path in model.iterdir():
            if not path.name.startswith("."):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _marked(file: Path) -> bool:
    try:
        return json.loads(file.read_bytes())["schema"] == SCHEMA
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_of_run(name: str) -> bool:
    """Whether a demo may have written a file of this name into the folder of its run; hidden ones are nobody's."""
    return name in WRITES["model"] or name.startswith(".") or WEIGHTS.fullmatch(name) is not None


def pixels(x: torch.Tensor) -> np.ndarray:
    """(N, 64) float64 in [0, 1] from (N, 1, 8, 8) in [-1, 1]."""
    return ((x.double() + 1) / 2).clamp(0, 1).flatten(1).numpy()


def judge(samples: np.ndarray, label: np.ndarray, real: np.ndarray, real_label: np.ndarray) -> dict[str, float]:
    """What independent judges say of samples (N, 64), asked for as `label`, beside real digits (M, 64)."""
    from scipy.spatial.distance import cdist
    from sklearn.svm import SVC

    among_real = cdist(real, real)
    np.fill_diagonal(among_real, np.inf)
    return {
        "label_agreement": float((SVC(C=10).fit(real, real_label).predict(samples) == label).mean()),
        "nearest_real": float(np.median(cdist(samples, real).min(1))),
        "nearest_real_baseline": float(np.median(among_real.min(1))),
    }


def draw_trajectory(model: gf.Diffusion, seed: int, path: Path) -> None:
    """One digit of each class, from noise on the left to the sample on the right, at a common contrast."""
    states = []
    model.sample(
        10, seed=seed, label=torch.arange(10, device="cpu"), **SAMPLING, callback=lambda state: states.append(state.x)
    )
    frames = torch.stack([x / x.std().clamp(min=1) for x in states])
    gf.data.save_png(path, gf.data.strip(frames, scale=5, padding=4))


def main(out: Path = Path("out"), seed: int = 0, steps: int = STEPS) -> None:
    """Train on the digits, sample, evaluate, draw.

    Args:
        out: Folder for the pictures, the samples, the metrics and the model.
        seed: Of the weights, the training and the samples.
        steps: Training steps; the default takes about 35 s on two CPU cores.
    """
    take(out)
    print(gf.info(), "", sep="\n")
    data = gf.data.digits()
    torch.manual_seed(seed)
    model = build()

    print(f"Training on {len(data)} real digits:")
    logs = train(model, data, seed, steps, out / "model")

    print(f"Drawing {len(data)} new ones:")
    start = time.perf_counter()
    samples = model.sample(len(data), seed=seed, label=data.label, **SAMPLING)
    sample_seconds = time.perf_counter() - start

    images, real = pixels(samples), pixels(data.x)
    metrics = judge(images, data.label.numpy(), real, data.label.numpy())
    report = gf.evaluate((samples, data.label), data, seed=seed, out=out / "evaluation")
    frechet = report["frechet"]
    metrics |= {
        "frechet_pixels": frechet.value / PIXELS,
        "frechet_pixels_baseline": frechet.baseline.value / PIXELS,
        "train_seconds": logs[-1]["seconds"],
        "sample_seconds": sample_seconds,
        "samples": len(images),
        "seed": seed,
    }

    arrays = io.BytesIO()
    np.savez(arrays, images=images.reshape(-1, 8, 8).astype(np.float32), labels=data.label.numpy())
    write_file(out / "samples.npz", arrays.getvalue())
    write_file(out / "metrics.json", to_json(metrics, indent=1).encode())
    gf.training.plot(out / "model", out / "training.png")
    draw_trajectory(model, seed, out / "trajectory.png")
    by_class = torch.cat([samples[data.label == digit][:20] for digit in range(10)])
    gf.data.save_png(out / "samples.png", by_class, columns=20, scale=5, padding=4)

    print(
        f"""
{report}

{gf.diagnose(report)}

    label agreement             {metrics["label_agreement"]:8.2%}   a classifier of real digits sees what was asked for
    pixel Frechet distance      {metrics["frechet_pixels"]:8.4f}   that of the table, for pixels in [0, 1]
      between real digits       {metrics["frechet_pixels_baseline"]:8.4f}
    nearest real digit          {metrics["nearest_real"]:8.3f}   median distance
      between real digits       {metrics["nearest_real_baseline"]:8.3f}
    training                    {metrics["train_seconds"]:6.1f} s   {steps} steps
    sampling                    {metrics["sample_seconds"]:6.1f} s   {len(images)} digits

{out}/: samples.png, trajectory.png, training.png, evaluation/report.png, samples.npz, metrics.json, model/"""
    )


if __name__ == "__main__":
    tyro.cli(main)
