"""compose.yaml and Dockerfile against the program: Docker itself is not run."""

import re
import shlex

import yaml
from typer.main import get_command

import main
from medvae.workspace import PROJECT


def options_of(command_line: list[str]) -> set[str]:
    """The options that the command of this line knows."""
    command = get_command(main.app)
    if command_line[0] in command.commands:  # type: ignore[attr-defined]
        command = command.commands[command_line[0]]  # type: ignore[attr-defined]
    return {option for parameter in command.params for option in parameter.opts}


def test_compose_starts_commands_that_exist_with_what_they_need() -> None:
    compose = yaml.safe_load((PROJECT / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert set(services) == {"database", "page", "worker"}
    for name in ("page", "worker"):
        service = services[name]
        used = {word for word in service["command"] if word.startswith("--")}
        assert used <= options_of(service["command"])
        assert service["environment"]["MEDVAE_DATABASE_URL"].startswith("postgresql://")
        assert "MEDVAE_QUEUE_SECRET" in service["environment"]
        assert service["depends_on"]["database"]["condition"] == "service_healthy"
    assert services["page"]["command"][-2:] == ["--device", "none"]
    named = {mount.split(":")[0] for service in services.values() for mount in service["volumes"]}
    assert named == set(compose["volumes"])


def test_the_dockerfile_copies_what_exists_and_keeps_work_in_the_mounted_folder() -> None:
    text = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    home = re.search(r"MEDVAE_HOME=(\S+)", text)
    assert home is not None
    assert f"VOLUME {home[1]}" in text
    assert f":{home[1]}\n" in (PROJECT / "compose.yaml").read_text(encoding="utf-8")
    copied = re.search(r"COPY (\S+) \.\nRUN pip", text)
    assert copied is not None and (PROJECT / copied[1]).is_file()
    arguments = re.search(r"^CMD \[(.*)\]$", text, re.MULTILINE)
    assert arguments is not None
    words = shlex.split(arguments[1].replace(",", " "))
    assert {word for word in words if word.startswith("--")} <= options_of(words)
