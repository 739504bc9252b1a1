"""Tiny models run on one core here."""

import pytest


@pytest.fixture(autouse=True)
def _small(one_thread: None) -> None:
    """Every test of this folder."""
