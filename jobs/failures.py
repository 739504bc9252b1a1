"""Says in one line, in words a user understands, why work failed and what to try."""

import errno
from pathlib import Path
from typing import Any

from medvae.errors import MedVAEError

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
        return " ".join(str(error).split())
    if _is_out_of_memory(error):
        return f"out of memory{_smaller_batch(config)}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: free some space below {home} and go on from there"
    return None


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
