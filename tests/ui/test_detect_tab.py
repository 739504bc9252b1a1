"""The handlers of the Detect tab as plain functions, with a real model and real files."""

import re
from pathlib import Path

import gradio as gr
import pytest

from medvae.config import Config
from tests.data.drawn import chest, write
from ui.context import Context
from ui.detect_tab import refresh_intro, show_files, show_report_card, show_sample
from ui.detect_views import intro, rarity
from ui.models import ABSENT


def test_an_upload_becomes_a_card_and_is_deleted(with_model: Context, upload: Path) -> None:
    scan = write(upload / "<b>scan.png", chest(5, "consolidation"))
    results, key, button, card, files = show_files(with_model, [str(scan)])
    assert results.count('<img src="data:image/jpeg') == 3 + 1  # the colour bar too
    assert "healthy validation images" in results
    assert "&lt;b&gt;scan.png" in results
    assert "<b>scan" not in results
    assert "Research use only" in results
    assert not upload.exists()
    assert button.visible
    assert (card, files) == ("", None)
    assert len(with_model.results.get(key).detections) == 1


def test_an_upload_is_deleted_even_when_nothing_can_look_at_it(
    context: Context, upload: Path
) -> None:
    scan = write(upload / "scan.png", chest(5))
    with pytest.raises(gr.Error, match="no model yet"):
        show_files(context, [str(scan)])
    assert not scan.exists()


def test_a_sample_has_all_scores_and_a_report_card(with_model: Context) -> None:
    results, key, _, _ = show_sample(with_model, "both", 2, 0)
    assert results.count("<article") == 2
    assert "MSE + beta × KLD" in results
    card = show_report_card(with_model, key)
    assert "data:image/png;base64," in card
    assert 'download="report-card-first.png"' in card


def test_a_report_card_of_results_long_gone_is_refused(with_model: Context) -> None:
    with pytest.raises(gr.Error, match="no longer held"):
        show_report_card(with_model, "key")


def test_the_introduction_gives_way_to_results(context: Context) -> None:
    text, token = refresh_intro(context, "", "")
    assert "No model yet" in text
    assert refresh_intro(context, "", token) == gr.skip()
    context.service.submit(Config())
    text, _ = refresh_intro(context, "", token)
    assert "being trained" in text
    assert refresh_intro(context, "key of results", "") == gr.skip()


def test_an_introduction_without_a_model_leads_to_training() -> None:
    assert 'href="?tab=train"' in intro(ABSENT)


@pytest.mark.parametrize(
    ("as_high", "words"),
    [
        (0, "More unusual than all 150 healthy validation images"),
        (2, "More unusual than 98.7 % of healthy validation images"),
        (75, "More unusual than 50.0 % of healthy validation images"),
        (150, "Less unusual than all 150 healthy validation images"),
    ],
)
def test_a_p_value_in_words(as_high: int, words: str) -> None:
    assert rarity((1 + as_high) / 151, 150) == words


def test_no_verdict_stands_without_its_model_and_threshold(with_model: Context) -> None:
    results, *_ = show_sample(with_model, "sick", 1, 0)
    assert re.search(r"Model <a [^>]*>first</a>", results)
    assert "threshold" in results
