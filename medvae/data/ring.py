"""Images too many for the GPU's memory: read ahead from the memory map through pinned buffers.

One thread fills a buffer while the GPU still works on the batches before it, and the copy to the
GPU runs beside its arithmetic. A buffer is filled again only once its copy has arrived.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

DEPTH = 3  # buffers: one on its way to the GPU, one ready, one being filled

Fill = Callable[[np.ndarray, np.ndarray], None]


class Ring:
    """A few buffers (B, 1, S, S) uint8, filled by `fill(indices, buffer)`."""

    def __init__(self, fill: Fill, shape: tuple[int, ...], device: torch.device) -> None:
        self._fill = fill
        self._device = device
        self._pinned = device.type == "cuda"
        self._buffers = [
            torch.empty(shape, dtype=torch.uint8, pin_memory=self._pinned) for _ in range(DEPTH)
        ]
        self._arrivals: list[torch.cuda.Event | None] = [None] * DEPTH

    def batches(self, choices: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """The images of each choice of at most B indices, on the device: (N, 1, S, S) uint8.

        Without a GPU a batch is only good until the next one is asked for.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            reads: deque[Future[tuple[int, int]]] = deque()
            for number, indices in enumerate(choices):
                reads.append(reader.submit(self._read, number % DEPTH, indices))
                if len(reads) == DEPTH:
                    yield self._send(*reads.popleft().result())
            while reads:
                yield self._send(*reads.popleft().result())

    def _read(self, slot: int, indices: np.ndarray) -> tuple[int, int]:
        arrival = self._arrivals[slot]
        if arrival is not None:
            arrival.synchronize()
        self._fill(indices, self._buffers[slot][: len(indices)].numpy())
        return slot, len(indices)

    def _send(self, slot: int, count: int) -> Tensor:
        images = self._buffers[slot][:count].to(self._device, non_blocking=True)
        if self._pinned:
            arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrival.record()
            self._arrivals[slot] = arrival
        return images
