"""Data held in memory, and an order of it that can be recomputed anywhere.

Sample counter c = 0, 1, 2, ... of a run is row `order[c mod N]` of the data, where `order` is the permutation of epoch
`c // N`, a function of (seed, epoch, N) alone. So a batch is a function of (seed, c), whatever came before it.
"""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image, ImageOps

IMAGE_FILES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_SEEDS = 2**63


def permutation(n, seed, epoch):
    """The order of epoch `epoch`: int64 array (n,), a permutation of 0..n-1.

    Ranks n 64-bit words of the Philox stream with key (seed, epoch). NumPy keeps the words of a bit generator fixed
    for ever, which it does not promise for `Generator.permutation`; a run must resume under another version.
    """
    words = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(n)
    return np.argsort(words, kind="stable")


class Data:
    """Samples `x: (N, *)` float32 and, optionally, labels `label: (N,)` int64 in [0, classes) and conditions
    `condition: (N, *)` floating-point, attributes or embeddings, NaN where one is missing.

    shape      shape of one sample, without N
    classes    number of classes; 0 without labels; by default one more than the largest label
    names      of the classes, or None
    Arrays that already have the right type are shared, not copied.
    Raises TypeError or ValueError for what is not floating-point, is empty, holds NaN or infinity, or does not match.
    """

    def __init__(self, x, label=None, classes=None, condition=None, names=None):
        self.x = _samples(x)
        self.condition = None if condition is None else _conditions(condition, len(self.x))
        self.shape = tuple(self.x.shape[1:])
        self.label = None if label is None else _labels(label, len(self.x))
        found = 0 if label is None else int(self.label.max()) + 1
        self.classes = found if classes is None else classes
        if not isinstance(self.classes, int) or self.classes < found or (label is None and self.classes):
            raise ValueError(f"classes: expected an integer of at least {found} (0 without labels), got {classes!r}")
        self.names = None if names is None else tuple(names)
        if self.names is not None and len(self.names) != self.classes:
            raise ValueError(f"names: expected {self.classes}, one a class, got {len(self.names)}")
        self._cached = (None, None, None)  # seed, epoch, its permutation

    def __len__(self):
        return len(self.x)

    def __repr__(self):
        return f"Data({len(self)} samples of shape {self.shape}, {self.classes or 'no'} classes)"

    def batch(self, seed, first, size):
        """Samples first, ..., first + size - 1 of the run `seed`: a dict of x (size, *), label (size,) or None, and
        condition (size, *) or None."""
        for name, value, low in (("seed", seed, 0), ("first", first, 0), ("size", size, 1)):
            if not isinstance(value, int | np.integer) or not low <= value < _SEEDS:
                raise ValueError(f"{name}: expected an integer in [{low}, 2**63), got {value!r}")
        epoch, position = np.divmod(np.arange(first, first + size), len(self))
        index = np.concatenate([self._order(seed, e)[position[epoch == e]] for e in range(epoch[0], epoch[-1] + 1)])
        index, columns = torch.from_numpy(index), {"x": self.x, "label": self.label, "condition": self.condition}
        return {name: None if value is None else value[index.to(value.device)] for name, value in columns.items()}

    def _order(self, seed, epoch):
        cached = self._cached  # read once: another thread may replace the tuple
        if cached[:2] != (seed, epoch):
            cached = self._cached = (seed, epoch, permutation(len(self), seed, epoch))
        return cached[2]


def arrays(x, label=None, classes=None, condition=None):
    """Data from arrays or tensors: `x: (N, *)` and `condition: (N, *)` floating-point, `label: (N,)` integers."""
    return Data(x, label, classes, condition)


def as_data(data):
    """Data from a Data, a tensor or array x, or a pair (x, label)."""
    if isinstance(data, Data):
        return data
    if isinstance(data, torch.Tensor | np.ndarray):
        return Data(data)
    if isinstance(data, tuple) and len(data) == 2:
        return Data(*data)
    raise TypeError(f"data: expected Data, a tensor, an array or a pair (x, label), got {type(data).__name__}")


def digits(split=None, fraction=0.25):
    """The 1,797 handwritten digits of scikit-learn: x (N, 1, 8, 8) in [-1, 1], label 0 to 9 (Alpaydin & Kaynak 1998).

    split      None for all of them, "train" or "test": a fixed split with the share `fraction` of every class in "test"
    Needs scikit-learn, which carries the images: nothing is downloaded.
    """
    if split not in (None, "train", "test"):
        raise ValueError(f'split: expected None, "train" or "test", got {split!r}')
    if not 0 < fraction < 1:
        raise ValueError(f"fraction: expected a number in (0, 1), got {fraction!r}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install genfast[demo]") from error
    source = load_digits()
    x = torch.tensor(source.images[:, None] / 8 - 1, dtype=torch.float32)  # grey levels 0..16, exact in float32
    label = torch.tensor(source.target, dtype=torch.int64)
    if split is None:
        return Data(x, label, classes=10)
    order = torch.from_numpy(permutation(len(x), seed=0, epoch=0))
    test = torch.zeros(len(x), dtype=torch.bool)
    for digit in range(10):
        members = order[label[order] == digit]
        test[members[: round(fraction * len(members))]] = True
    chosen = test if split == "test" else ~test
    return Data(x[chosen], label[chosen], classes=10)


def folder(path, size=None, channels=None):
    """The images below a folder, in the order of their paths: x (N, C, H, W) = pixel / 127.5 - 1, in [-1, 1].

    Where they lie in subfolders these are the classes, numbered by name; hidden files and folders are passed over.
    Files: 8-bit .png, .jpg, .jpeg, .webp, .bmp, turned as their camera says and transparent ones laid on white.
    size      None if all have one size already; otherwise the middle square of each is made size x size, by Pillow's
              bicubic filter, which averages when it shrinks
    channels  1 for grey, 3 for colour; None for grey if all of them are
    Raises ValueError naming the first file that cannot be read, has another size, or lies beside the subfolders.
    """
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ValueError(f"size: expected a positive integer, got {size!r}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels: expected None, 1 or 3, got {channels!r}")
    root = Path(path)
    if not root.is_dir():
        raise NotADirectoryError(f"path: expected a folder, got {path}")
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in IMAGE_FILES and file.is_file())
    names = [file.relative_to(root) for file in files]
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    if not names:
        raise ValueError(f"path: {path} holds no images, {', '.join(IMAGE_FILES)}")
    classes = sorted({name.parts[0] for name in names if len(name.parts) > 1})
    if classes and (loose := [name for name in names if len(name.parts) == 1]):
        raise ValueError(f"path: {path} holds classes in subfolders, but {loose[0]} lies beside them")
    images = [_read_image(root / name, size, channels) for name in names]
    for name, image in zip(names, images):
        if image.shape[1:] != images[0].shape[1:]:
            (height, width), (h, w) = images[0].shape[1:], image.shape[1:]
            raise ValueError(
                f"path: {name} has {w} x {h} pixels, {names[0]} had {width} x {height}; size= makes them equal squares"
            )
    depth = max(len(image) for image in images)
    x = torch.stack([torch.from_numpy(image).expand(depth, -1, -1) for image in images])
    label = np.array([classes.index(name.parts[0]) for name in names]) if classes else None
    return Data(x / 127.5 - 1, label, names=classes or None)


def load(path, size=None, channels=None):
    """Data from a file, a folder or a name.

    "digits", "digits:train" or "digits:test": see `digits`.  A folder: see `folder`, with its size and channels.
    .npy: x.  .npz, .safetensors: x under the name "x", "images" or "arr_0" and, if there is one, label under "label"
    or "labels".  x: (N, *) floating-point as it is, or images in uint8, (N, H, W), (N, C, H, W) or (N, H, W, C) with 1
    or 3 channels C, which become pixel / 127.5 - 1.
    Raises FileNotFoundError if there is nothing, ValueError or TypeError saying what is wrong with the file.
    """
    if isinstance(path, str) and path.partition(":")[0] == "digits":
        return digits(path.partition(":")[2] or None)
    path = Path(path)
    if path.is_dir():
        return folder(path, size, channels)
    if not path.exists():
        raise FileNotFoundError(f"path: there is no file {path}")
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": safetensors.torch.load_file}
    if path.suffix not in readers:
        raise ValueError(f'path: expected "digits", a folder, or a file {", ".join(readers)}, got {path}')
    try:
        columns = readers[path.suffix](path)
    except Exception as error:  # each format has errors of its own
        raise ValueError(f"path: {path} cannot be read: {error}") from error
    names = [name for name in ("x", "images", "arr_0") if name in columns]
    if not names:
        raise ValueError(f'path: {path} holds {sorted(columns)}, expected one of them to be "x", "images" or "arr_0"')
    label = next((columns[name] for name in ("label", "labels") if name in columns), None)
    try:
        x = torch.as_tensor(columns[names[0]])
    except (TypeError, ValueError) as error:  # text, or numbers in another machine's order
        raise TypeError(f"path: {path} holds {names[0]} of type {columns[names[0]].dtype}: {error}") from error
    return Data(_scaled(x, path) if x.dtype == torch.uint8 else x, label)


def _read_npy(path):
    return {"x": np.load(path, allow_pickle=False)}


def _read_npz(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _scaled(image, path):
    """(N, C, H, W) in [-1, 1] from 8-bit images."""
    if image.ndim == 3:
        image = image[:, None]
    first, last = (image.ndim == 4 and image.shape[axis] in (1, 3) for axis in (1, 3))
    if first == last:
        why = "which axis holds the channels is not clear" if first else "expected 1 or 3 channels"
        raise ValueError(f"path: {path} holds uint8 of shape {tuple(image.shape)}: {why}; floats are taken as they are")
    return (image if first else image.permute(0, 3, 1, 2).contiguous()) / 127.5 - 1


def _read_image(file, size, channels):
    """uint8 (1 or 3, H, W)."""
    try:
        with Image.open(file) as image:
            image = ImageOps.exif_transpose(image)
    except Exception as error:  # each format has errors of its own
        raise ValueError(f"path: {file} cannot be read: {error}") from error
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"path: expected 8-bit images, got mode {image.mode} in {file}")
    grey = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 or (grey and channels is None) else "RGB")
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    pixels = np.array(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy()


def _samples(x):
    if not isinstance(x, torch.Tensor | np.ndarray):
        raise TypeError(f"x: expected a tensor or an array, got {type(x).__name__}")
    x = torch.as_tensor(x)
    if not x.is_floating_point():
        raise TypeError(f"x: expected floating-point samples, got {x.dtype}; scale images first, e.g. x / 127.5 - 1")
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"x: expected at least one sample, of shape (N, *), got shape {tuple(x.shape)}")
    x = x.detach().to(torch.float32)
    if not (finite := torch.isfinite(x)).all():
        bad = (~finite).flatten(1).any(1).nonzero().flatten()
        raise ValueError(f"x: expected finite values, got NaN or infinity in {len(bad)} samples, the first is {bad[0]}")
    return x


def _labels(label, n):
    if not isinstance(label, torch.Tensor | np.ndarray):
        raise TypeError(f"label: expected a tensor or an array, got {type(label).__name__}")
    label = torch.as_tensor(label)
    if label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
        raise TypeError(f"label: expected integers, got {label.dtype}")
    if label.shape != (n,):
        raise ValueError(f"label: expected shape ({n},), one per sample, got {tuple(label.shape)}")
    label = label.to(torch.int64)
    if label.min() < 0:
        raise ValueError(f"label: expected values of at least 0, got {int(label.min())}")
    return label


def _conditions(condition, n):
    if not isinstance(condition, torch.Tensor | np.ndarray):
        raise TypeError(f"condition: expected a tensor or an array, got {type(condition).__name__}")
    condition = torch.as_tensor(condition)
    if not condition.is_floating_point():
        raise TypeError(f"condition: expected floating-point numbers, got {condition.dtype}")
    if condition.ndim < 2 or len(condition) != n:
        raise ValueError(f"condition: expected shape ({n}, *), one row per sample, got {tuple(condition.shape)}")
    return condition.detach().to(torch.float32)
