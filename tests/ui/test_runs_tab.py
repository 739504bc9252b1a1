"""The handlers of the Runs tab as plain functions on a real job table, with a real finished run."""

import shutil

import gradio as gr
import pytest

from jobs.views import Status
from medvae.config import Config
from tests.conftest import TrainedRun
from tests.ui.conftest import STARTED, Puppet, epoch
from ui.context import Context
from ui.runs_tab import delete_run, possible_actions, retry_run, show_runs, use_model
from ui.runs_tab import list_rows as rows_of


@pytest.fixture
def finished(context: Context, puppet: Puppet, trained: TrainedRun) -> str:
    """A run with all its files, as the worker leaves it."""
    job = context.service.submit(trained.config, name="<i>mine</i>")
    puppet.begin(job, [STARTED, epoch(1), epoch(2)])
    shutil.copytree(trained.folder, context.workspace.run_folder(job))
    puppet.end(job, Status.SUCCEEDED, result=trained.outcome.summary())
    return job


def test_an_empty_table_says_what_to_do(context: Context) -> None:
    table, *about = show_runs(context, "", "")[:5]
    assert "No runs yet" in table
    assert about == ["", "", "", ""]


def test_the_table_and_the_chosen_run_show_their_figures(context: Context, finished: str) -> None:
    table, head, figures, curves, records, *_, token = show_runs(context, finished, "")
    assert "&lt;i&gt;mine&lt;/i&gt;" in table
    assert "<i>mine" not in table + head
    assert f"run={finished}" in table
    assert "2 of 2" in table
    for said in ("Baseline: mean brightness", "Sensitivity", "Test images at the threshold"):
        assert said in figures
    assert curves.count("<svg") == 3
    for said in ("data:image/jpeg", "best.pth", "latent size"):
        assert said in records
    assert show_runs(context, finished, token) == gr.skip()


def test_an_unknown_run_is_said_to_be_unknown(context: Context) -> None:
    _, head, *_ = show_runs(context, "nobody", "")
    assert "There is no run named" in head


def test_a_model_is_put_to_use(context: Context, finished: str) -> None:
    assert offered(context) == ["use", "delete"]
    use_model(context, finished)
    assert context.model.look().status == "ready"
    assert context.workspace.promoted.exists()


def test_only_what_is_possible_is_offered(context: Context, puppet: Puppet) -> None:
    job = context.service.submit(Config())
    assert offered(context) == ["cancel", "delete"]
    puppet.begin(job, [STARTED])
    assert offered(context) == ["cancel"]
    puppet.tell(job, epoch(1))
    assert offered(context) == ["keep", "cancel"]
    puppet.end(job, Status.FAILED, error="x")
    assert offered(context) == ["retry", "delete"]
    folder = context.workspace.run_folder(job)
    folder.mkdir(parents=True)
    (folder / "last.pth").touch()
    assert offered(context) == ["resume", "retry", "delete"]
    retry_run(context, job)
    assert context.service.job(job).status is Status.QUEUED
    with pytest.raises(gr.Error, match="cannot retry"):
        retry_run(context, job)


def test_deleting_is_asked_for_first(context: Context, finished: str) -> None:
    assert delete_run(context, "") == gr.skip()  # the question was answered with no
    assert delete_run(context, finished) == ""
    assert context.service.jobs() == []
    assert not context.workspace.run_folder(finished).exists()


def test_an_evaluation_is_listed_with_its_figures(
    context: Context, finished: str, puppet: Puppet, trained: TrainedRun
) -> None:
    job = context.service.submit_evaluation(finished)
    puppet.begin(job)
    puppet.end(
        job, Status.SUCCEEDED, result={"evaluation": trained.outcome.summary()["evaluation"]}
    )
    table, head, figures, *_ = show_runs(context, job, "")
    assert "Evaluation of" in table
    assert head.startswith("<header")
    assert "Sensitivity" in figures


def offered(context: Context) -> list[str]:
    names = ("use", "keep", "resume", "retry", "cancel", "delete")
    possible = possible_actions(context, rows_of(context)[0])
    return [name for name, is_possible in zip(names, possible, strict=True) if is_possible]
