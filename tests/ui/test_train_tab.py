"""The handlers of the Train tab as plain functions on a real job table."""

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from jobs.views import Status
from medvae.config import Config
from medvae.engine.events import Preparing, SamplesDrawn, Stop
from medvae.workspace import Workspace
from tests.data.drawn import chest, write
from tests.ui.conftest import STARTED, Puppet, epoch
from ui.app import build_context
from ui.config_form import form_fields, values_of
from ui.context import Context
from ui.train_tab import (
    OTHER,
    PHANTOMS,
    apply_preset,
    data_choices,
    follow_run,
    fresh_data,
    queue_training,
    stop_run,
)
from ui.train_views import FILM_FRAMES, film


def form(**changes: Any) -> dict[str, Any]:
    fields = form_fields()
    return {f.key: v for f, v in zip(fields, values_of(Config()), strict=True)} | changes


def test_a_good_form_is_queued(context: Context) -> None:
    faults, run = queue_training(context, PHANTOMS, "", **form(training__epochs=3))
    assert faults == ""
    job = context.service.job(run)
    assert job.config == Config().override({"training.epochs": 3}).model_dump()


def test_a_bad_form_is_not_queued_and_says_all_that_is_wrong(context: Context) -> None:
    faults, run = queue_training(
        context, OTHER, "/no/such/folder", **form(training__epochs=-1, model__latent_size=0)
    )
    assert run == gr.skip()
    assert faults.count("<li>") == 3
    assert "/no/such/folder: no such folder" in faults
    assert context.service.jobs() == []


def test_a_named_folder_is_offered_the_next_time(context: Context, chest_folder: Path) -> None:
    queue_training(context, OTHER, str(chest_folder), **form())
    assert str(chest_folder) in [value for _, value in data_choices(context)]
    assert fresh_data(context).value == str(chest_folder)


def test_a_folder_is_queued_by_its_absolute_path(
    context: Context, chest_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(chest_folder.parent)
    _, run = queue_training(context, OTHER, chest_folder.name, **form())
    assert (context.service.job(run).config or {})["data"]["root"] == str(chest_folder)


def test_the_folder_named_at_the_start_is_chosen(
    workspace: Workspace, context: Context, chest_folder: Path
) -> None:
    started = build_context(workspace, context.service, data=str(chest_folder))
    assert fresh_data(started).value == str(chest_folder)
    assert fresh_data(context).value == PHANTOMS


def test_a_preset_fills_in_every_setting() -> None:
    description, *values = apply_preset("quick")
    assert "demonstration" in description.info
    assert values == values_of(Config.load("quick"))


def test_an_empty_page_says_what_to_do(context: Context) -> None:
    status, *_, token = follow_run(context, "", "")
    assert "Nothing has been trained yet" in status
    assert follow_run(context, "", token) == gr.skip()


def test_an_unknown_run_is_said_to_be_unknown(context: Context) -> None:
    status, *_ = follow_run(context, "<i>nobody</i>", "")
    assert "&lt;i&gt;nobody&lt;/i&gt;" in status


def test_a_run_is_followed_from_the_line_to_its_end(context: Context, puppet: Puppet) -> None:
    job = context.service.submit(Config())
    status, keep, cancel, *_, shown, token = follow_run(context, "", "")
    assert "no worker is there yet" in status
    assert (keep.visible, cancel.visible, shown) == (False, True, job)

    puppet.begin(job, [Preparing("Drawing <phantoms>", 120, 600)])
    status, *_, token = follow_run(context, "", token)
    assert "Drawing &lt;phantoms&gt;: 120 of 600" in status

    puppet.tell(job, STARTED, epoch(1))
    status, keep, _, curves, _, _, token = follow_run(context, "", token)
    assert "Epoch 2 of 3" in status
    assert keep.visible
    assert curves.count("<svg") == 3
    assert follow_run(context, "", token) == gr.skip()

    puppet.end(job, Status.FAILED, error="out of <memory>")
    status, keep, cancel, curves, *_ = follow_run(context, job, token)
    assert "out of &lt;memory&gt;" in status
    assert not (keep.visible or cancel.visible)
    assert curves == gr.skip()  # it is there already


def test_the_page_follows_what_runs_before_what_waits_and_what_ended(
    context: Context, puppet: Puppet
) -> None:
    first, second, _third = (context.service.submit(Config()) for _ in range(3))
    puppet.begin(first)
    assert follow_run(context, "", "")[-2] == first
    puppet.end(first, Status.SUCCEEDED)
    assert follow_run(context, "", "")[-2] == second


def test_stopping_asks_the_run(context: Context, puppet: Puppet) -> None:
    job = context.service.submit(Config())
    puppet.begin(job)
    stop_run(context, Stop.KEEP, "")  # asked, and answered with no
    assert context.service.job(job).stop is None
    stop_run(context, Stop.KEEP, job)
    assert context.service.job(job).stop is Stop.KEEP
    puppet.end(job, Status.SUCCEEDED)
    with pytest.raises(gr.Error, match="cannot stop"):
        stop_run(context, Stop.CANCEL, job)


def test_the_film_shows_a_few_epochs_with_first_and_last(
    context: Context, puppet: Puppet, tmp_path: Path
) -> None:
    strip = write(tmp_path / "strip.png", chest(1))
    job = context.service.submit(Config())
    puppet.begin(job, [STARTED, *(SamplesDrawn(n, str(strip)) for n in range(1, 41))])
    drawn = film(context.histories.of(context.service.job(job)))
    assert drawn.count("<figure") == 1 + FILM_FRAMES
    assert "epoch 1<" in drawn
    assert "epoch 40<" in drawn
