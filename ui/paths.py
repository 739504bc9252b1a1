"""The paths that people type."""

from pathlib import Path

from medvae.errors import DataError

SHOWN = 60  # characters of a path that is refused


def typed_path(text: str) -> Path:
    """As an absolute path, since a worker may run elsewhere; nothing need be there.

    Raises `DataError` for what this computer cannot even look for.
    """
    try:
        path = Path(text.strip()).expanduser().resolve()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long, nobody's home, a NUL
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise DataError(f"{text[:SHOWN]!r} cannot be looked for ({reason})") from None
    return path
