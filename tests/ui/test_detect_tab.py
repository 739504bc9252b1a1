"""The handlers of the Detect tab as plain functions, with a real model and real files."""

import base64
import csv
import io
import json
import re
import zipfile
from datetime import datetime
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from medvae.config import Config
from medvae.engine.labels import LABELS
from medvae.errors import DataError
from tests.data.drawn import chest, write
from ui.api import detect
from ui.context import Context
from ui.detect_tab import (
    find_neighbours,
    open_viewer,
    queue_scoring,
    refresh_intro,
    save_pictures,
    save_table,
    show_files,
    show_report_card,
    show_sample,
)
from ui.detect_views import intro, rarity
from ui.looking import Look
from ui.models import ABSENT, ModelView
from ui.results_head import tray

CHOICE = '{"fpr": 0.05, "picked": []}'


def test_an_upload_becomes_a_card(with_model: Context, upload: Path) -> None:
    scan = write(upload / "<b>scan.png", chest(5, "consolidation"))
    results, key, button, card, files = show_files(with_model, [str(scan)])
    assert results.count('<img src="data:image/jpeg') == 3 + 1  # the colour bar too
    assert "healthy validation images" in results
    assert "&lt;b&gt;scan.png" in results
    assert "<b>scan" not in results
    assert "Research use only" in results
    assert button.visible
    assert (card, files) == ("", None)
    assert len(with_model.results.get(key).looks) == 1


def test_equal_uploads_of_two_visitors_are_one_file_and_both_see_it(
    with_model: Context, upload: Path
) -> None:
    scan = str(write(upload / "scan.png", chest(5)))
    first, second = (with_model.results.get(show_files(with_model, [scan])[1]) for _ in range(2))
    assert first.look(0).detection.score == second.look(0).detection.score
    [image] = detect(with_model, [scan])["images"]
    assert image["score"] == first.look(0).detection.score


def test_an_upload_without_a_model_is_a_message(context: Context, upload: Path) -> None:
    with pytest.raises(gr.Error, match="no model yet"):
        show_files(context, [str(write(upload / "scan.png", chest(5)))])


def test_a_sample_has_all_scores_and_a_report_card(with_model: Context) -> None:
    results, key, _, _ = show_sample(with_model, "both", 2, 0)
    assert results.count("<article") == 2
    assert "MSE + beta × KLD" in results
    card = show_report_card(with_model, key, CHOICE)
    for kind, name in (
        ("image/png", "png"),
        ("application/pdf", "pdf"),
    ):
        assert f"data:{kind};base64," in card
        assert f'report-card-first-{datetime.now():%Y-%m-%d}.{name}"' in card


def test_a_report_card_of_results_long_gone_is_refused(with_model: Context) -> None:
    with pytest.raises(gr.Error, match="no longer held"):
        show_report_card(with_model, "key", CHOICE)


def test_one_image_is_seen_large_with_all_that_was_found(with_model: Context) -> None:
    _, key, _, _ = show_sample(with_model, "both", 3, 0)
    results = with_model.results.get(key)
    detection = results.look(1).detection
    assert results.threshold(detection.target_fpr) == detection.threshold
    large = open_viewer(with_model, key, json.dumps({"look": 1, "fpr": detection.target_fpr}))
    assert results.look(1).detection.name in large
    assert large.count("data:image/png") == 2  # the maps, to be laid over
    assert "threshold" in large
    assert "this image" in large
    assert [f'data-look="{n}"' in large for n in range(3)] == [True, False, True]
    for score in results.look(1).detection.scores:
        assert LABELS[score] in large
    with pytest.raises(gr.Error, match="no such image"):
        open_viewer(with_model, key, '{"look": 3, "fpr": 0.05}')


def test_the_verdict_of_the_viewer_follows_the_accepted_false_alarms(with_model: Context) -> None:
    _, key, _, _ = show_sample(with_model, "both", 1, 0)
    p_value = with_model.results.get(key).look(0).detection.p_value
    for fpr in (0.9 * p_value, p_value):
        large = open_viewer(with_model, key, json.dumps({"look": 0, "fpr": fpr}))
        assert ("<span>Unusual</span>" in large) == (fpr == p_value)


def test_the_slider_goes_as_far_as_the_models_own_target() -> None:
    scores = [float(n) for n in range(99)]
    assert 'data-thresholds="98,' in tray(0.033, scores)
    assert 'max="20"' in tray(0.033, scores)
    assert 'data-target="0.033"' in tray(0.033, scores)
    assert ',74"' in tray(0.25, scores)  # the 25 highest of 99
    assert 'max="25"' in tray(0.25, scores)


def test_regions_are_outlined_and_listed_with_their_area(with_model: Context) -> None:
    _, key, _, _ = show_sample(with_model, "sick", 3, 0)
    for index in range(3):
        detection = with_model.results.get(key).look(index).detection
        large = open_viewer(with_model, key, json.dumps({"look": index, "fpr": 0.05}))
        assert large.count("<path class=") == min(5, len(detection.regions))
        for region in detection.regions[:5]:
            assert f"{100 * region.area:.1f} % of the image" in large


def test_the_healthy_images_most_like_one_are_found(with_model: Context) -> None:
    _, key, _, _ = show_sample(with_model, "both", 2, 0)
    alike = find_neighbours(with_model, key, '{"look": 1}')
    assert alike.startswith('<div data-of="1">')
    assert alike.count("data:image/jpeg") == 3
    distances = [float(found) for found in re.findall(r"distance ([\d.]+)", alike)]
    assert distances == sorted(distances)


def test_without_the_training_images_their_absence_is_said(
    with_model: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, key, _, _ = show_sample(with_model, "both", 1, 0)

    def gone(*_: object) -> None:
        raise DataError("/nowhere: no such folder; expected a data set")

    monkeypatch.setattr("medvae.engine.experiment.load_test_set", gone)
    assert "/nowhere: no such folder" in find_neighbours(with_model, key, '{"look": 0}')


def test_the_table_follows_the_accepted_false_alarms(with_model: Context, upload: Path) -> None:
    scans = [write(upload / f"{n}.png", chest(n, "consolidation")) for n in range(4)]
    broken = upload / "=broken.png"
    broken.write_text("no image")
    _, key, *_ = show_files(with_model, [str(scan) for scan in [*scans, broken]])
    looks = with_model.results.get(key).looks
    p_values = [look.detection.p_value for look in looks if isinstance(look, Look)]
    for fpr in (0.01, 0.999):
        link = save_table(with_model, key, json.dumps({"fpr": fpr, "picked": []}))
        rows = list(csv.DictReader(saved(link).decode().splitlines()))
        assert [row["verdict"] == "unusual" for row in rows[:4]] == [p <= fpr for p in p_values]
        assert rows[4]["image"] == "'=broken.png"  # no formula in a spreadsheet
        assert "not an image" in rows[4]["error"]
        assert {row["model"] for row in rows} == {"first"}
        assert all("not a medical device" in row["notice"] for row in rows)


def test_the_chosen_heatmaps_are_handed_out(with_model: Context) -> None:
    _, key, _, _ = show_sample(with_model, "both", 4, 0)
    for picked, number in (([], 4), ([2], 1)):
        link = save_pictures(with_model, key, json.dumps({"fpr": 0.05, "picked": picked}))
        with zipfile.ZipFile(io.BytesIO(saved(link))) as archive:
            assert len(archive.namelist()) == number
            with Image.open(archive.open(archive.namelist()[0])) as picture:
                assert picture.mode == "RGB"


def saved(link: str) -> bytes:
    """What a download link holds."""
    found = re.search(r'href="data:[^;]+;base64,([^"]+)"', link)
    assert found
    return base64.b64decode(found[1])


def test_an_archive_is_queued_for_scoring(with_model: Context, tmp_path: Path) -> None:
    said = queue_scoring(with_model, str(tmp_path), "")
    [job] = with_model.service.jobs()
    assert job.kind == "score"
    assert job.id in said
    assert job.payload["out"] == str(tmp_path.with_name("scores.parquet"))
    for source, words in (("", "is empty"), (str(tmp_path / "gone"), "no such folder")):
        with pytest.raises(gr.Error, match=words):
            queue_scoring(with_model, source, "")


def test_the_introduction_says_what_the_first_model_is_doing(context: Context) -> None:
    text, token = refresh_intro(context, "")
    assert "No model yet" in text
    assert refresh_intro(context, token) == gr.skip()
    context.service.submit(Config())
    text, _ = refresh_intro(context, token)
    assert "being trained" in text
    assert "drawn chest X-rays" in text


def test_an_introduction_of_a_model_from_elsewhere_looks_in_no_other_folder(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (64, 64)).save(context.workspace.home / "report_card.png")
    view = ModelView("ready", run="..")
    monkeypatch.setattr(context.model, "look", lambda: view)
    text, _ = refresh_intro(context, "")
    assert "Drop a chest X-ray to begin" in text
    assert "<img" not in text


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
