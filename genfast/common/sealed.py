"""JSON that says whether it is whole: files that hold the sha256 of their own content."""

import hashlib
import json
import stat
from pathlib import Path

from .files import CorruptCheckpoint
from .versions import versions

SEAL = "manifest_sha256"
LARGEST = 2**26  # bytes of such a file; ours are far smaller


def sealed(content: dict) -> dict:
    """The content with its sha256."""
    return content | {SEAL: _digest(content)}


def read_sealed(file: Path) -> dict:
    """The content, without its seal, if all of it is as it was written. Raises CorruptCheckpoint if it is not, or if
    the file cannot be read; FileNotFoundError or NotADirectoryError where there is none."""
    content = None
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise corrupt(file, "is no file")  # of a pipe one would wait for the end
        if status.st_size > LARGEST:
            raise corrupt(file, f"is damaged: it has more than {LARGEST} bytes")
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise corrupt(file, f"cannot be read: {error.strerror}") from error
    try:
        content = json.loads(text)
        if content.pop(SEAL) != _digest(content):
            raise ValueError("its content does not match its own sha256")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise corrupt(file, f"is damaged: {error!r}", content) from error
    return content


def require_format(file: Path, content: dict, own: int, remedy: str) -> None:
    """Raises ValueError, with the versions, if the file has another format than this genfast reads; CorruptCheckpoint
    if it has none. remedy: for an older one."""
    if type(content.get("format")) is not int:
        raise corrupt(file, f"is damaged: its format is {content.get('format')!r}", content)
    if content["format"] != own:
        older = content["format"] < own
        raise ValueError(
            f"{file} was written by {'an older' if older else 'a newer'} genfast: "
            f"{remedy if older else 'upgrade this one'}. It has format {content['format']}, of genfast "
            f"{_version(content)}; genfast {versions()['genfast']} reads {own}"
        )


def corrupt(file: Path, what: str, content: object = None) -> CorruptCheckpoint:
    """The error that a file is not as it should be, with the versions of who wrote it and who reads it."""
    return CorruptCheckpoint(f"{file} {what} (of genfast {_version(content)}, read by {versions()['genfast']})")


def _digest(content: dict) -> str:
    """sha256 of the content, whatever the layout of the text."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _version(content: object) -> str:
    """The genfast that wrote a file, which may hold anything, as far as it says so."""
    return content.get("genfast", "unknown") if isinstance(content, dict) else "unknown"
