"""log.jsonl of a run: one JSON object a line, numbers that are not finite as null."""

import hashlib
import json
import os
from pathlib import Path

from ..common.checks import is_integer
from ..common.files import append_line, flush, to_json, write_file
from ..common.sealed import corrupt
from ..common.warn import warn_user

LARGEST = 2**30  # bytes; ours are far smaller


class LogFile:
    """The log at `path`. A state says how far it had come, and a run that goes on from there cuts off the rest. Raises
    CorruptCheckpoint where something else lies in its place."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, line: dict) -> None:
        """Raises OSError with the file's name, and then nothing of the line is there."""
        append_line(self.path, to_json(line))

    def lines(self) -> list[dict]:
        """All that it holds; what is no JSON object, such as half a line that a killed process left, is passed over."""
        lines = [_parsed(line) for line in self._content().splitlines()]
        return [line for line in lines if line is not None]

    def mark(self) -> dict:
        """How far it has come: bytes and their sha256. They are on the disk then. Raises OSError with its name."""
        content = self._content()
        if content:
            flush(self.path)
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def cut(self, mark: dict | None, step: int) -> None:
        """Make it what it was at the mark, in the state of step `step`; empty without a mark. Where it does not begin
        as it did then, which is a UserWarning, it keeps what can be read until that step."""
        content = self._content()
        end = 0 if mark is None else mark["bytes"]
        if mark is None or hashlib.sha256(content[:end]).hexdigest() == mark["sha256"]:
            if len(content) > end:
                os.truncate(self.path, end)
            return
        kept = [line for line in content.splitlines() if _is_until(_parsed(line), step)]
        write_file(self.path, b"".join(line + b"\n" for line in kept))
        warn_user(f"{self.path} is damaged: the run goes on with the {len(kept)} lines that can be read")

    def _content(self) -> bytes:
        if not os.path.lexists(self.path):
            return b""
        if not self.path.is_file() or self.path.stat().st_size > LARGEST:
            raise corrupt(self.path, f"is no file, or has more than {LARGEST} bytes: move it away, or remove it")
        return self.path.read_bytes()


def _is_until(line: dict | None, step: int) -> bool:
    return line is not None and is_integer(line.get("step")) and line["step"] <= step


def _parsed(line: bytes) -> dict | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
