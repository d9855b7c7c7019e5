"""The emoji: which there are, which lie together, and what they look like, where Debian's packages are."""

import sys

import matplotlib
import pytest
import torch

import genfast as gf
from genfast.data.emoji import FONT, LIST, Emoji, in_test, kind, listed

SIZE = 16
with_packages = pytest.mark.skipif(
    not (FONT.is_file() and LIST.is_file()), reason="needs Debian's fonts-noto-color-emoji and unicode-data"
)
TEXT = """# group: People & Body
# subgroup: hands
1F44B                                      ; fully-qualified     # \U0001f44b E0.6 waving hand
1F3FB                                      ; component           # \U0001f3fb E1.0 light skin tone
1F9D1 1F3FD 200D 2695 FE0F                 ; fully-qualified     # x E12.1 health worker: medium skin tone
1F9D1 1F3FD 200D 2695                      ; minimally-qualified # x E12.1 health worker: medium skin tone
# group: Symbols
0023 FE0F 20E3                             ; fully-qualified     # # E0.6 keycap: #
"""


def test_the_list_is_read():
    assert list(listed(TEXT)) == [
        Emoji("People & Body", "waving hand", (0x1F44B,)),
        Emoji("People & Body", "health worker: medium skin tone", (0x1F9D1, 0x1F3FD, 0x200D, 0x2695)),
        Emoji("Symbols", "keycap: #", (0x23, 0x20E3)),
    ]


@pytest.mark.parametrize(
    "names",
    [
        "waving hand|waving hand: dark skin tone",
        "man: red hair|woman: light skin tone, bald|person: beard|woman",
        "person running|man running|woman running: light skin tone|man running facing right: dark skin tone",
        "women holding hands|woman and man holding hands: dark skin tone, light skin tone|men holding hands",
        "kiss|kiss: woman, man, light skin tone, dark skin tone",
        "merman|mermaid: dark skin tone|merperson",
        "boy|girl: light skin tone|child",
        "old man|old woman|older person: dark skin tone",
        "Santa Claus|Mrs. Claus: dark skin tone|mx claus",
    ],
)
def test_variants_are_of_one_kind(names):
    assert len({kind(Emoji("People & Body", name, ())) for name in names.split("|")}) == 1


def test_other_emoji_are_of_other_kinds():
    names = "flag: France", "flag: Italy", "keycap: 1", "keycap: 2", "man on foot", "woman on foot"
    assert len({kind(Emoji("Flags", name, ())) for name in names}) == len(names)
    people = "man running", "man walking", "baby", "child", "older person", "person", "kiss", "family"
    assert len({kind(Emoji("People & Body", name, ())) for name in people}) == len(people)


def test_the_split_is_fixed():
    """Its very members: other ones would make other test losses."""
    assert not any(map(in_test, ("", "running", "waving hand", "kiss", "pizza")))
    assert all(map(in_test, ("cook", "angry face", "orangutan", "egg", "flag: Guam")))


@with_packages
def test_all_are_there_in_their_order():
    data, names = gf.data.emoji(SIZE), [each.name for each in listed(LIST.read_text())]
    assert data.shape == (3, SIZE, SIZE) and data.levels == 256 and len(data) == len(names) >= 3600
    assert data.names[0] == "Smileys & Emotion" and data.names[-1] == "Flags" and data.classes == 9
    assert data.label.diff().ge(0).all() and data.label.bincount().min() > 50
    assert ((data.x + 1) * 127.5).sub(((data.x + 1) * 127.5).round()).abs().max() < 1e-4

    def color(name, row, column):
        pixel = (data.x[names.index(name), :, row, column] + 1) / 2
        return "".join("rgb"[k] for k in range(3) if pixel[k] > 0.55) or "black"

    assert color("red heart", 0, 0) == "rgb" and color("red heart", 6, 4) == "r"  # on white
    assert [color("flag: France", 8, column) for column in (2, 8, 14)] == ["b", "rgb", "r"]
    assert color("large blue diamond", 8, 8) == "gb" and color("black large square", 8, 8) == "black"


@with_packages
def test_no_variant_leaks():
    """Neither a kind nor a picture is in both splits, which together are the whole, in its order."""
    data, train, test = gf.data.emoji(SIZE), gf.data.emoji(SIZE, "train"), gf.data.emoji(SIZE, split="test")
    found = list(listed(LIST.read_text()))
    pictures = {row.numpy().tobytes() for row in train.x}
    there = torch.tensor([row.numpy().tobytes() in pictures for row in data.x])
    assert data.x[there].equal(train.x) and data.x[~there].equal(test.x) and data.label[~there].equal(test.label)
    sides = {}
    for each, side in zip(found, there.tolist()):
        sides.setdefault(kind(each), set()).add(side)
    assert all(len(of_kind) == 1 for of_kind in sides.values())
    shares = test.label.bincount() / data.label.bincount()
    assert shares.min() > 0.18 and shares.max() < 0.34


@with_packages
def test_by_name():
    assert gf.data.load("emoji:test", size=SIZE).x.equal(gf.data.emoji(SIZE, "test").x)
    again = gf.data.emoji(SIZE)
    again.x.zero_(), again.label.zero_()
    assert gf.data.emoji(SIZE).x.any() and gf.data.emoji(SIZE).label.any()  # what is kept is not what is given
    with pytest.raises(ValueError, match="split must be"):
        gf.data.load("emoji:valid")


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"fonts-noto-color-emoji and unicode-data.*no file .*none\.ttf"):
        gf.data.emoji(font=tmp_path / "none.ttf")
    monkeypatch.setattr(sys.modules["genfast.data.emoji"], "LIST", tmp_path / "emoji-test.txt")
    font = tmp_path / "font.ttf"
    font.write_bytes(b"no font")
    with pytest.raises(FileNotFoundError, match=r"no file .*emoji-test\.txt"):
        gf.data.emoji(font=font)
    (tmp_path / "emoji-test.txt").write_text(TEXT)
    with pytest.raises(ValueError, match=r"font must be one with pictures, in a table CBDT; got .*font\.ttf"):
        gf.data.emoji(font=font)
    with pytest.raises(ValueError, match=r"font must .* CBDT; got .*DejaVuSans\.ttf"):
        gf.data.emoji(font=f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf")
    monkeypatch.setitem(sys.modules, "fontTools.ttLib", None)
    with pytest.raises(ImportError, match=r"pip install genfast\[emoji\]"):
        gf.data.emoji(font=font)
