"""Pictures in a font."""

from collections.abc import Iterable
from pathlib import Path

LIGATURE = 4  # the type of a lookup: several glyphs become one


def pictures(font: Path, codes: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], bytes]:
    """The PNG of each code that the font draws, in its largest size: of a code point, or of several, a ligature.

    (OpenType 1.9, CBDT, cmap and GSUB.) Raises ImportError without fontTools, ValueError for what is no such font.
    """
    try:
        from fontTools.ttLib import TTFont
    except ImportError as error:
        raise ImportError("fonts are read by fontTools: pip install genfast[emoji]") from error
    try:
        with TTFont(font, lazy=True) as opened:
            drawn, glyphs, joined = opened["CBDT"].strikeData[-1], opened.getBestCmap(), _ligatures(opened)
            names = {code: tuple(glyphs.get(point) for point in code) for code in codes}
            found = {code: joined.get(name, name[0] if len(name) == 1 else None) for code, name in names.items()}
            return {code: drawn[glyph].imageData for code, glyph in found.items() if glyph in drawn}
    except Exception as error:  # each table has errors of its own
        raise ValueError(f"font must be one with pictures, in a table CBDT; got {font}: {error}") from error


def _ligatures(font):
    """The glyph of each tuple of glyphs that are drawn as one."""
    lookups = [lookup for lookup in font["GSUB"].table.LookupList.Lookup if lookup.LookupType == LIGATURE]
    return {
        (first, *ligature.Component): ligature.LigGlyph
        for lookup in lookups
        for table in lookup.SubTable
        for first, ligatures in table.ligatures.items()
        for ligature in ligatures
    }
