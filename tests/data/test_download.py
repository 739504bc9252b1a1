"""Downloads from a real server that cuts lines, sends wrong bytes, or says no."""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from medvae.data.download import RemoteFile, download, download_kaggle, fetch_public_set
from medvae.errors import DataError

CONTENT = bytes(range(256)) * 4096  # 1 MB


@dataclass
class Server:
    """What it does is set by the test; what it was asked is remembered."""

    url: str = ""
    sends: bytes = CONTENT
    cut_after: int | None = None  # bytes of each connection
    cuts: int = 0  # connections that are cut
    status: int | None = None
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)

    def file(self, **changed: object) -> RemoteFile:
        digest = hashlib.md5(CONTENT).hexdigest()
        known = {"url": self.url, "name": "set.npz", "size": len(CONTENT), "md5": digest}
        return RemoteFile(**{**known, **changed})  # type: ignore[arg-type]


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            if state.status:
                self.send_error(state.status)
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and state.ranges else 0
            rest = state.sends[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            cut = state.cut_after is not None and state.cuts > 0
            state.cuts -= cut
            self.wfile.write(rest[: state.cut_after] if cut else rest)
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Silent."""

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{serving.server_port}/set.npz"
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    serving.shutdown()
    serving.server_close()
    thread.join()


def fetch(remote: RemoteFile, folder: Path) -> Path:
    return download(remote, folder, lambda done, total: None, pause=0.001)


def test_a_file_arrives_with_progress_and_is_not_fetched_twice(
    server: Server, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    file = download(server.file(), tmp_path, lambda *call: told.append(call))
    assert file.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    fetch(server.file(), tmp_path)
    assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


def test_cut_lines_are_taken_up_where_they_broke(server: Server, tmp_path: Path) -> None:
    server.cut_after, server.cuts = 300_000, 3
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_later_call_goes_on_too(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.npz.part").write_bytes(CONTENT[:400_000])
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=400000-"]


def test_a_server_that_cannot_resume_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cut_after, server.cuts = False, 300_000, 1
    assert fetch(server.file(), tmp_path).read_bytes() == CONTENT


def refusal(remote: RemoteFile, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        fetch(remote, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_line_that_never_holds_is_given_up_and_what_came_is_kept(
    server: Server, tmp_path: Path
) -> None:
    server.cut_after, server.cuts = 0, 99
    (tmp_path / "set.npz.part").write_bytes(CONTENT[:1000])
    assert "goes on where it broke" in refusal(server.file(), tmp_path)
    assert (tmp_path / "set.npz.part").stat().st_size == 1000


def test_wrong_bytes_are_thrown_away(server: Server, tmp_path: Path) -> None:
    server.sends = CONTENT[:-1] + b"!"
    assert "another checksum" in refusal(server.file(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_expected_are_not_taken(server: Server, tmp_path: Path) -> None:
    server.sends = CONTENT * 2
    assert "sends more than" in refusal(server.file(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "said"),
    [(403, "no permission"), (401, "no permission"), (404, "may have moved"), (503, "status 503")],
)
def test_a_server_that_says_no_is_quoted(
    server: Server, tmp_path: Path, status: int, said: str
) -> None:
    server.status = status
    assert said in refusal(server.file(), tmp_path)


def test_no_network_is_one_line(tmp_path: Path) -> None:
    nobody = RemoteFile("http://127.0.0.1:9/set.npz", "set.npz", 1000, "x")
    assert "check the network" in refusal(nobody, tmp_path)


def test_a_full_disk_is_told_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=200 * 2**20))
    assert "200 MB free" in refusal(server.file(), tmp_path)
    assert server.asked == []


def test_kaggle_without_a_network_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")  # port 80: nobody is there
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    with pytest.raises(DataError) as caught:
        download_kaggle()
    assert "cannot reach kaggle.com" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_public_set_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected medmnist or kaggle"):
        fetch_public_set("imagenet", tmp_path, lambda done, total: None)
