"""Rooms and arrows of the package: how many parts it has, and how many ties there are between them.

    python tests/rooms.py

A room is a package, nested ones too, or a module at the top of genfast/; genfast/__init__.py, which ties all of them to
their names, is none. An arrow is an ordered pair of rooms with an import between them, also inside functions. What
the studies take by gf.<name>, as users do, is not counted.
"""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "genfast"


def tracked(folder: Path = ROOT, suffix: str = "") -> list[Path]:
    """Files below a folder that git tracks, for a stray file of a user's is nobody's business; all, where no git is."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, text=True)
    if listed.returncode:
        names = [str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts]
    else:
        names = listed.stdout.split("\0")
    return sorted(folder / name for name in names if name.endswith(suffix) and (folder / name).is_file())


def modules() -> dict[str, Path]:
    """Name of a module, without "genfast.", to its file; that of a package is its __init__.py, "" that of genfast."""
    found = {}
    for path in tracked(PACKAGE, ".py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str, path: Path) -> str:
    """The room in which a module lies."""
    if path.name == "__init__.py" or "." not in module:
        return module
    return module.rpartition(".")[0]


def imports(module: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of genfast that a module imports, wherever in the file; "" for genfast itself."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    package = ["genfast", *package.split(".")] if package else ["genfast"]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "genfast":
                while ".".join(name[1:]) not in known:
                    name = name[:-1]
                yield ".".join(name[1:])


def arrows() -> dict[tuple[str, str], list[str]]:
    """(from, to) to the modules that draw the arrow."""
    known, found = modules(), {}
    for module, path in known.items():
        start = room_of(module, path)
        for other in imports(module, path, known):
            end = room_of(other, known[other])
            if start != end and start and end:
                found.setdefault((start, end), []).append(module)
    return found


def rooms() -> set[str]:
    return {room_of(module, path) for module, path in modules().items()} - {""}


def circle(pairs: set[tuple[str, str]]) -> list[str]:
    """Rooms that form a circle, the first again at the end; [] where there is none."""
    following = {}
    for start, end in pairs:
        following.setdefault(start, set()).add(end)
    done = set()

    def walk(room: str, path: list[str]) -> list[str]:
        if room in path:
            return [*path[path.index(room) :], room]
        if room in done:
            return []
        found = next((found for other in sorted(following.get(room, ())) if (found := walk(other, [*path, room]))), [])
        done.add(room)
        return found

    return next((found for room in sorted(following) if (found := walk(room, []))), [])


if __name__ == "__main__":
    ties = arrows()
    for room in sorted(rooms()):
        print(f"{room:<24}", *sorted(end for start, end in ties if start == room))
    at_the_top = sum(1 for name, path in modules().items() if "." not in name and path.parent == PACKAGE)
    print(
        f"{len(rooms())} rooms, {len(ties)} arrows, {at_the_top} modules at the top, "
        f"circle: {circle(set(ties)) or 'none'}"
    )
