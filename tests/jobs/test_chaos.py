"""Real trainings whose workers are killed: the short version of `make chaos`."""

from benchmarks.chaos import Chaos
from medvae.workspace import Workspace


def test_no_kill_loses_a_job_or_changes_a_weight(workspace: Workspace) -> None:
    report = Chaos(workspace, kills=4, seed=3).brew()
    print(*report.lines(), sep="\n")
    assert report.kills.total() == 4
    assert report.problems == []
