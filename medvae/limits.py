"""How much a stranger may ask of this program: the bounds of whatever enters it.

They belong to an installation, not to a run, so they are not part of `Config`: a checkpoint must
not bring its own. `limits.yaml` in the workspace changes them.
"""

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medvae.config import read_yaml_file
from medvae.errors import ConfigError, ImageError
from medvae.workspace import Workspace

FILE = "limits.yaml"
MB = 2**20
MIN_SIDE = 16  # pixels; below that there is nothing to look at


class Limits(BaseModel):
    """Every bound, with its unit; errors name the one that was reached and its value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file_mb: int = Field(256, ge=1, description="Size of one image file.")
    pixels: int = Field(
        40_000_000, ge=10_000, description="Pixels of one image: twice the largest flat panel."
    )
    decode_seconds: float = Field(10.0, gt=0, description="Time to decode one untrusted file.")
    decode_memory_mb: int = Field(
        1000, ge=300, description="Address space of a process that decodes untrusted files."
    )
    archive_entries: int = Field(500_000, ge=1, description="Files in one archive.")
    archive_mb: int = Field(100_000, ge=1, description="Unpacked size of one archive.")
    archive_ratio: float = Field(
        200.0, ge=1, description="Unpacked over packed size of an archive and each file in it."
    )
    archive_depth: int = Field(16, ge=1, description="Folders within folders in an archive.")
    upload_files: int = Field(200, ge=1, description="Images of one upload.")
    upload_mb: int = Field(512, ge=1, description="Bytes of one upload, archives unpacked.")
    session_files: int = Field(2_000, ge=1, description="Files one visitor may upload in an hour.")
    session_mb: int = Field(4_096, ge=1, description="Megabytes one visitor may upload in an hour.")
    message_mb: int = Field(8, ge=1, description="What a request says besides its files.")
    uploads_disk_mb: int = Field(4_096, ge=1, description="Disk that all uploads may fill at once.")
    upload_seconds: int = Field(600, ge=1, description="Age at which an upload goes.")
    free_disk_mb: int = Field(500, ge=0, description="Disk that must stay free after a download.")
    checkpoint_mb: int = Field(4_096, ge=1, description="Size of a model file.")

    @classmethod
    def current(cls) -> "Limits":
        """Those of the current workspace; read once a process. Raises `ConfigError`."""
        return _read(Workspace.current().home / FILE)

    def check_bytes(self, count: int) -> None:
        """Before an image file is read. Raises `ImageError`."""
        if count > self.file_mb * MB:
            raise ImageError(
                f"{count / MB:.0f} MB; expected at most {self.file_mb} MB (limit file_mb)"
            )

    def check_size(self, width: int, height: int) -> None:
        """Before a pixel is decoded. Raises `ImageError`."""
        if min(width, height) < MIN_SIDE:
            raise ImageError(f"{width}×{height} pixels; expected at least {MIN_SIDE}×{MIN_SIDE}")
        if width * height > self.pixels:
            raise ImageError(
                f"{width}×{height} pixels; expected at most {self.pixels:,} in all (limit pixels)"
            )


@cache
def _read(file: Path) -> Limits:
    if not file.is_file():
        return Limits()
    try:
        return Limits.model_validate(read_yaml_file(file) or {})
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'top level'}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        )
        raise ConfigError(f"{file}: {faults}") from None
