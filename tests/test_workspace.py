"""Where things are kept: the name of a run is the name of one folder, and nothing else."""

import pytest

from medvae.errors import ConfigError
from medvae.workspace import LONGEST_NAME, Workspace


@pytest.mark.parametrize("name", ["run", "my run (2)", "β 0.5", "run-20250101-120000", "a" * 100])
def test_a_plain_name_is_a_folder_of_its_own(workspace: Workspace, name: str) -> None:
    folder = workspace.run_folder(name)
    folder.mkdir(parents=True)
    assert [folder] == list(workspace.checkpoints.iterdir())


def test_a_part_of_a_job_works_below_its_run(workspace: Workspace) -> None:
    assert (
        workspace.job_folder("run/shards/000001") == workspace.run_folder("run") / "shards/000001"
    )
    with pytest.raises(ConfigError):
        workspace.job_folder("../run")


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "../esc", "/abs/x", "a/b", "a\\b", ".hidden", "a\nb", "a\0b", "a\udcff",
     "a" * (LONGEST_NAME + 1), "ä" * 60, "vae_m4_best.pth", "VAE_M4_best.pth"],
)  # fmt: skip
def test_another_name_is_refused_in_one_line(workspace: Workspace, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        workspace.run_folder(name)
    assert "\n" not in str(caught.value)
