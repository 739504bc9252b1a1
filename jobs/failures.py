"""Says in one line, in words a user understands, why work failed and what to try."""

import errno
import os
from pathlib import Path
from typing import Any

from medvae.errors import MedVAEError

_IN_THE_WAY = "a file stands where a folder is needed; move it, or choose another place"
_NOT_ALLOWED = "not allowed; change its rights, or choose another place"
_REMEDIES = {
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: "a folder stands where a file is needed; choose another name",
    errno.ENOENT: "not there, and cannot be made; choose another place",
    errno.EACCES: _NOT_ALLOWED,
    errno.EPERM: _NOT_ALLOWED,
    errno.EROFS: "on a disk that is read-only; choose another place",
    errno.ENAMETOOLONG: "a name that is too long; choose a shorter one",
}
_LONGEST = 300  # characters of a foreign message; the log has all of it


def explain(error: BaseException, config: dict[str, Any] | None, log: Path) -> str:
    """`config` is the job's, if it has one; `log` is where the traceback went."""
    known = foreseen(error, config, log.parent.parent)
    if known is not None:
        return known
    message = " ".join(str(error).split())[:_LONGEST]
    return f"unexpected {type(error).__name__}: {message}; the traceback is in {log}"


def foreseen(error: BaseException, config: dict[str, Any] | None, home: Path) -> str | None:
    """The line for an error that a user can do something about, else None; files go to `home`."""
    if isinstance(error, MedVAEError):
        return _one_line(str(error))
    if _is_out_of_memory(error):
        return f"out of memory{_smaller_batch(config)}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: free some space below {home} and go on from there"
    if isinstance(error, OSError) and error.errno in _REMEDIES and error.filename is not None:
        file = Path(os.fsdecode(error.filename2 or error.filename))
        ours = {home / "data", home / "checkpoints"} & {file, *file.parents} or file == home
        how = " with MEDVAE_HOME" if ours else ""
        return _one_line(f"{file}: {_REMEDIES[error.errno]}{how}")
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        before, after = error.object[: error.start], error.object[error.start :]
        line = before.rpartition("\n")[2] + after.partition("\n")[0]
        return f"{line!r}: a name that is not UTF-8; choose or give it another one"
    return None


def _one_line(text: str) -> str:
    """Also of a file name that is not UTF-8, which the job table could not hold."""
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode()


def _is_out_of_memory(error: BaseException) -> bool:
    # By name and text: torch is not imported here, and MPS and the CPU raise a plain RuntimeError.
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__)
        or (isinstance(error, RuntimeError) and "out of memory" in text)
        or (isinstance(error, RuntimeError) and "can't allocate memory" in text)
    )


def _smaller_batch(config: dict[str, Any] | None) -> str:
    size = (config or {}).get("training", {}).get("batch_size")
    if size is None:
        return ": close other programs, or use a machine with more memory"
    if size < 2:
        return " even with batch size 1: try a smaller model.image_size or model.width"
    return f" with batch size {size}: try training.batch_size={size // 2}"
