"""The errors that a user is meant to read.

Each message is one line: what was found, what was expected, and what to do. The outermost
layers turn them into a message on the page or a line on the terminal with exit code 2.
"""


class MedVAEError(Exception):
    """Base of every error whose message is written for the user."""


class ConfigError(MedVAEError):
    """A configuration has an unknown key, an impossible value, or cannot be read."""


class DataError(MedVAEError):
    """A data set is missing, empty, mislabelled or otherwise unusable."""


class ImageError(DataError):
    """One image cannot be decoded, or holds nothing to look at."""


class LeakError(DataError):
    """A sick or test image is about to reach training or validation."""


class CheckpointError(MedVAEError):
    """A checkpoint is missing, damaged, of another version, or could not be written."""


class ExportError(MedVAEError):
    """A model that could not be written in another form."""


class BundleError(MedVAEError):
    """A bundle is damaged, was changed, or is none."""


class DeviceError(MedVAEError):
    """The requested device is not there, or cannot do what was asked of it."""


class JobError(MedVAEError):
    """A job does not exist, or is in no state for what was asked of it."""
