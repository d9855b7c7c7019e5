"""Calls into the file system that fail: where a disk is full, or a process is killed between any two of them."""

import errno
import os


class Killed(BaseException):
    pass


CALLS = ("mkdir", "open", "fsync", "rename", "replace", "unlink", "rmdir", "close", "truncate")


class Fate:
    """Calls into the file system, of which the k-th raises: once, or, as of a dead process, all that follow."""

    def __init__(self, patch, error, forever, k):
        self.error, self.forever, self.k, self.count, self.struck = error, forever, k, 0, False
        for name in CALLS:
            patch.setattr(os, name, self._counted(getattr(os, name)))
        patch.setattr("builtins.open", self._opening(open))

    def check(self, path=None):
        self.count += 1
        if self.count == self.k or (self.forever and self.count > self.k):
            self.struck = True
            raise self.error(path)

    def _counted(self, function):
        def call(*args, **options):
            self.check(args[0] if args and isinstance(args[0], str | os.PathLike) else None)
            return function(*args, **options)

        return call

    def _opening(self, function):
        def call(path, mode="r", *args, **options):
            if isinstance(path, int) or not {"w", "a"} & {*mode}:
                return function(path, mode, *args, **options)
            self.check(path)
            file = function(path, mode, *args, **options)
            return Faulty(file, self)

        return call


class Faulty:
    """A file whose writes may fail, half done."""

    def __init__(self, file, fate):
        self.file, self.fate = file, fate

    def write(self, data):
        try:
            self.fate.check()
        except BaseException:
            self.file.write(memoryview(data)[: len(data) // 2])
            raise
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *error):
        return self.file.__exit__(*error)


def no_space(path=None):
    """As the system says it: of a call by a path it names that."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([] if path is None else [str(path)]))
