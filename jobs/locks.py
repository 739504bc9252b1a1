"""Locks that die with their process: one page a folder, one worker a device, on this machine.

The operating system holds them (flock), so a crash leaves nothing to clean up. The file says in
words who has it. Several machines may share the folder, so each has lock files of its own.
"""

import fcntl
import os
import re
import socket
from pathlib import Path

from medvae.errors import JobError
from medvae.workspace import Workspace


class Taken(JobError):
    """Another process has the lock; `holder` is what it wrote about itself."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class Lock:
    """Held from construction until `release`, or until this process ends in whatever way."""

    def __init__(self, workspace: Workspace, name: str, about: str = "") -> None:
        """Raises `Taken` at once when somebody has it."""
        path = workspace.state / f"{name}@{socket.gethostname()}.lock"
        try:
            self._descriptor = _open(path)
        except OSError as error:
            raise JobError(f"cannot write {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise Taken(path.read_text(encoding="utf-8")) from None
        self.describe(about)

    def describe(self, about: str) -> None:
        """Say something about the holder, for whoever comes second."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, about.encode(), 0)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def release(self) -> None:
        os.close(self._descriptor)


def lock_page(workspace: Workspace) -> Lock:
    """For the one page of a folder; `describe` it by its address. Raises `JobError`."""
    try:
        return Lock(workspace, "page")
    except Taken as taken:
        where = f"at {taken.holder}" if taken.holder else "just starting"
        raise JobError(f"a page is already open for {workspace.home}: it is {where}") from None


def lock_device(workspace: Workspace, device: str) -> Lock:
    """For the one worker on a device. Raises `JobError`."""
    name = re.sub(r"\W", "-", device)
    try:
        return Lock(workspace, f"worker-{name}", f"process {os.getpid()}")
    except Taken as taken:
        raise JobError(
            f"device {device} already has a worker ({taken.holder or 'just starting'}); "
            "name another one with --device"
        ) from None


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
