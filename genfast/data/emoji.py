"""The color emoji of Debian's font: real pictures in color, of many kinds, without a download."""

import functools
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..common.checks import require_choice, require_count
from ..common.files import as_path
from .dataset import Data
from .font import pictures
from .pixels import read_image

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
LIST = Path("/usr/share/unicode/emoji/emoji-test.txt")
LINE = re.compile(r"([0-9A-F ]+?) *; fully-qualified *# \S+ E[0-9.]+ (.+)")
LARGEST = 2**10  # pixels a side, beyond which the pictures are blurred and memory is short
IN_COLOR = 0xFE0F  # variation selector 16, which has no glyph
PERSONS = {"man", "woman", "person", "men", "women", "people", "and"}
SIBLINGS = {  # variants under names of their own
    "merman": "merperson", "mermaid": "merperson", "prince": "with crown", "princess": "with crown", "boy": "child",
    "girl": "child", "old": "older", "Mrs. Claus": "Santa Claus", "mx claus": "Santa Claus",
}  # fmt: skip


class Emoji(NamedTuple):
    """group, name: of the list.  code: the code points of this one emoji."""

    group: str
    name: str
    code: tuple[int, ...]


def emoji(size: int = 32, split: str | None = None, font: str | Path | None = None) -> Data:
    """The 3,655 emoji of Unicode 15 as Noto draws them, the middle 128 x 128 pixels of each, which hold all of it, made
    size x size by Pillow's bicubic filter: x (N, 3, size, size) in [-1, 1], on white, of 256 levels. The label is the
    group, `Data.names`: of smileys, people, animals, food, travel, activities, objects, symbols, flags. In the order of
    Unicode's list.

    split      None for all of them, "train" or "test": a fixed split with about a quarter of every class in "test". All
               variants of an emoji, in skin tone, hair and sex, lie on one side, and so do flags that look the same
    font       another font with pictures (PNGs in its table CBDT); by default that of Debian's package
    Later releases of font and list have more emoji, and leave these on their side; what the font does not draw is left
    out.
    Needs fontTools and Debian's packages fonts-noto-color-emoji and unicode-data: nothing is downloaded. Raises
    ImportError or FileNotFoundError, which name them, and ValueError for a font without such pictures.
    (Unicode Technical Standard 51, `emoji-test.txt`.)
    """
    size, split = require_count("size", size, 1, LARGEST), require_choice("split", split, (None, "train", "test"))
    pixels, label, names, test = _all_emoji(size, FONT if font is None else as_path("font", font))
    chosen = np.isin(test, (True, False) if split is None else split == "test")
    x = torch.from_numpy(pixels[chosen]).float() / 127.5 - 1
    return Data(x, torch.from_numpy(label[chosen]), names=names, levels=256)


@functools.lru_cache(maxsize=2)
def _all_emoji(size, font):
    """Pixels (N, 3, size, size) uint8, label (N,), names of the classes, which are for tests (N,): drawn once in a
    process."""
    for path in (font, LIST):
        if not path.is_file():
            raise FileNotFoundError(
                "font and list of emoji come with Debian's packages fonts-noto-color-emoji and unicode-data; there is "
                f"no file {path}"
            )
    found = list(listed(LIST.read_text(encoding="utf-8")))
    drawn = pictures(font, [each.code for each in found])
    found = [each for each in found if each.code in drawn]
    if not found:
        raise ValueError(f"font must draw emoji; got {font}, which draws none of the list")
    kinds = {}  # by picture, so that flags that look the same are of one
    test = [in_test(kinds.setdefault(drawn[each.code], kind(each))) for each in found]
    pixels = np.empty((len(found), 3, size, size), np.uint8)
    for row, each in zip(pixels, found):
        row[:] = read_image(io.BytesIO(drawn[each.code]), size)  # one channel where all is gray
    names = tuple(dict.fromkeys(each.group for each in found))
    return pixels, np.array([names.index(each.group) for each in found]), names, np.array(test)


def listed(text: str) -> Iterator[Emoji]:
    """The fully qualified emoji of an emoji-test.txt, in its order."""
    group = ""
    for line in text.splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ")
        elif match := LINE.fullmatch(line):
            points = (int(point, 16) for point in match[1].split())
            yield Emoji(group, match[2], tuple(point for point in points if point != IN_COLOR))


def kind(one: Emoji) -> str:
    """What variants of an emoji have in common: its name without skin tone, hair, sex and direction."""
    if one.group != "People & Body":
        return one.name
    name = one.name.partition(":")[0].partition(" facing ")[0]
    name = " ".join(word for word in name.split() if word not in PERSONS)
    return SIBLINGS.get(name, name)


def in_test(kind: str) -> bool:
    """Whether emoji of this kind are for tests: a function of its name alone."""
    return hashlib.sha256(kind.encode()).digest()[0] < 64
