"""Opens ZIP and TAR without believing how long their own directories and names claim to be.

Python's readers take a directory, or a name of any length, into memory before anybody can object.
"""

import io
import tarfile
import zipfile
from pathlib import Path

from medvae.errors import DataError
from medvae.limits import MB

ENTRY_BYTES = 100  # of a ZIP's directory for each file: most of it the name
LONGEST_HEADER = 64 * 2**10  # bytes of a long name, or of other facts, in a TAR
_NAMES_AND_FACTS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class BoundedZip(zipfile.ZipFile):
    """A ZIP to read. Raises `DataError` before the directory of too many files is read.

    longest: bytes that may be read in one go afterwards.
    """

    _reads: "_BoundedReads | None" = None  # as long as there is a file

    def __init__(self, file: Path, entries: int, longest: int) -> None:
        self._reads = reads = _BoundedReads(io.FileIO(file))
        reads.longest = entries * ENTRY_BYTES
        reads.refusal = (
            f"{file.name}: a list of more than {entries:,} files (limit archive_entries); nothing "
            "of it was read"
        )
        try:
            super().__init__(reads)
        except BaseException:
            reads.close()
            raise
        reads.longest = longest
        reads.refusal = f"{file.name}: a file of more than {longest // MB:,} MB in it"

    def close(self) -> None:
        super().close()
        if self._reads:
            self._reads.close()


class _BoundedReads(io.BufferedReader):
    longest: int
    refusal: str

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.longest:
            raise DataError(self.refusal)
        return super().read(size)


class ShortHeaders(tarfile.TarInfo):
    """For `tarfile.open(…, tarinfo=…)`: raises `DataError` at a header that is no name any more."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "ShortHeaders":
        found = super().frombuf(buf, encoding, errors)
        if found.type in _NAMES_AND_FACTS and found.size > LONGEST_HEADER:
            raise DataError(
                f"a name of {found.size:,} bytes in the archive; expected at most "
                f"{LONGEST_HEADER:,}; nothing of it was read"
            )
        return found
