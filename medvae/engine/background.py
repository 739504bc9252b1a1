"""Files that nobody waits for, written by one thread in the order they came."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Background(Generic[Result]):
    """Use as a context; leaving it waits until all is done."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._asked: list[tuple[str, Future[Result]]] = []  # oldest first

    def __enter__(self) -> "Background[Result]":
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown()

    def put(self, name: str, work: Callable[[], Result]) -> None:
        """Do this later; what still waits under the same name is out of date and never done."""
        self._asked = [(n, asked) for n, asked in self._asked if n != name or not asked.cancel()]
        self._asked.append((name, self._thread.submit(work)))

    def finished(self) -> list[Result]:
        """What came of work done since the last call, oldest first. Raises what work raised."""
        results = []
        while self._asked and self._asked[0][1].done():
            results.append(self._asked.pop(0)[1].result())
        return results

    def wait(self) -> list[Result]:
        """Until all is done; then `finished`."""
        wait_for([asked for _, asked in self._asked])
        return self.finished()
