import gradio as gr
import pytest

from jobs.database import StoreUnavailable
from medvae.errors import DataError
from ui.context import patient, told


@told
def asked(path: str) -> str:
    raise DataError(f"{path}: no such folder")


@patient
def looked_at() -> str:
    raise StoreUnavailable("away for a moment")


def test_an_error_meant_for_the_user_becomes_a_message_without_a_trace() -> None:
    with pytest.raises(gr.Error, match="here: no such folder") as told_error:
        asked("here")
    assert told_error.value.__cause__ is None


def test_a_message_is_text_whatever_it_repeats() -> None:
    with pytest.raises(gr.Error) as told_error:
        asked("<b>'here'")
    assert told_error.value.message == "&lt;b&gt;'here': no such folder"


def test_a_job_table_that_is_away_leaves_the_page_as_it_is() -> None:
    assert looked_at() == gr.skip()
