"""One file that holds all a model needs: weights, config, calibration, data hashes, versions.

Written whole or not at all, read without running any code that it may carry.
"""

import errno
import os
import platform
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.utils._pytree import tree_map_only

import medvae
from medvae.atomic import replacing
from medvae.config import Config
from medvae.errors import CheckpointError
from medvae.limits import MB, Limits
from medvae.workspace import Workspace

FORMAT = "med-anomaly-vae"
VERSION = 2


def save(path: Path, kind: str, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically: to a partial file, synced, then renamed over `path`.

    content: tensors and plain values only. Raises `CheckpointError` when the disk refuses; what
    stood at `path` before is then still there.
    """
    header = {"format": FORMAT, "version": VERSION, "kind": kind}
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            torch.save({**header, **content}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not written ({_why(error)}); {_kept(path)}") from error


def load(path: Path, kind: str) -> dict[str, Any]:
    """Read a checkpoint of that kind onto the CPU.

    Raises `CheckpointError` for a missing, damaged, foreign or newer file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; train a model first")
    with path.open("rb") as file:
        return read(file, kind, str(path))


def read(file: BinaryIO, kind: str, name: str) -> dict[str, Any]:
    """The same of an open file, called `name` in errors. Runs no code that it may carry."""
    try:
        _check_archive(file, name)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception:  # what is no checkpoint makes the reader raise nearly anything
        raise CheckpointError(
            f"{name}: not a checkpoint, or a damaged one; expected a file that this program wrote"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{name}: a PyTorch file, but not written by this program")
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{name}: checkpoint version {content.get('version')!r}; this program reads version "
            f"{VERSION}"
        )
    if content.get("kind") != kind:
        raise CheckpointError(f"{name}: holds a {content.get('kind')}; expected a {kind}")
    return content


def config_of(content: dict[str, Any], path: Path) -> Config:
    """The configuration a checkpoint was made with."""
    return Config.parse(content.get("config"), f"{path}: its configuration")


def promote(path: Path, workspace: Workspace) -> Path:
    """Make a finished model the one that detection uses. Returns where it went."""
    save(workspace.promoted, "model", _without_header(load(path, "model")))
    return workspace.promoted


def versions() -> dict[str, str]:
    """What wrote a checkpoint."""
    return {
        "program": medvae.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
    }


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights on the CPU, in plain memory order."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in model.state_dict().items()
    }


def snapshot(state: dict[str, Any]) -> dict[str, Any]:
    """A copy on the CPU of all tensors in nested plain values, which later steps do not change."""
    copied: dict[str, Any] = tree_map_only(
        torch.Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), state
    )
    return copied


def _check_archive(file: BinaryIO, name: str) -> None:
    """Nothing may unpack to more than the file's own size: PyTorch stores, it does not pack."""
    limit = Limits.current().checkpoint_mb
    size = file.seek(0, os.SEEK_END)
    if size > limit * MB:
        raise CheckpointError(
            f"{name}: {size / MB:,.0f} MB; expected at most {limit} MB (limit checkpoint_mb)"
        )
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    file.seek(0)
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or sum(member.file_size for member in members) > size:
        raise CheckpointError(f"{name}: packed; expected a file that this program wrote")


def _without_header(content: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in content.items() if k not in ("format", "version", "kind")}


def _why(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            if cause.errno in (errno.ENOSPC, errno.EDQUOT):
                return "the disk is full; free some space and resume the run"
            return os.strerror(cause.errno) if cause.errno else str(cause)
        cause = cause.__context__
    return " ".join(str(error).split())


def _kept(path: Path) -> str:
    return "the previous one is untouched" if path.exists() else "nothing was left behind"
