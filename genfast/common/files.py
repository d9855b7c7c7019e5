"""Files that are whole or not there at all."""

import os
from pathlib import Path


class CorruptCheckpoint(RuntimeError):
    """A file of a checkpoint is damaged or missing; the message names it."""


def write_file(path, data):
    """Replace the file by these bytes, or fail and leave it as it is.

    Written beside it and flushed to the disk before the rename, then the folder is flushed, so that a power cut cannot
    leave the new name with old or no content. Raises OSError with the file's name.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # a full disk does not say which file it was
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
