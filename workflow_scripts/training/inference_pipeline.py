"""The way of images through a trained network, on which nothing waits that need not.

    read ahead, in threads ─► in batches of one shape, on the device ─► finished, in threads ─► written behind

Each part is a generator that draws from the one before it, or takes what it gives: a stage puts those
together that it needs (`datasets/parallel.in_threads` reads and finishes). The network runs in the caller's
thread; meanwhile threads decode the images that come next, refine what it said by a CRF, and write. Order
and batches are a function of the images alone, never of how fast anything is, and all that waits is bounded,
in number and in bytes. What a reader or the writer raises ends the stage, as it is.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image

from workflow_scripts.datasets.images import read_image
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.datasets.parallel import MOST_WAITING, in_threads
from workflow_scripts.errors import InputError
from workflow_scripts.models.multi_scale import in_halves

logger = logging.getLogger(__name__)

Element = TypeVar("Element")
Result = TypeVar("Result")

# Images among which those of one shape are sought.
WINDOW = 64
# Pixels that a network sees at once, by device. On a CPU batches take a fifth longer than image by image.
PIXELS = {"cpu": 1, "cuda": 2**23}
# Results that wait for the writer.
UNWRITTEN = 16
CHANNELS = 3
# The scales of a method whose settings name none.
LARGEST_SCALE = (2.0,)


class Kind(NamedTuple):
    """What elements share that the device computes together.

    Attributes:
        key: Images of other shapes have another.
        most: How many may be together.
    """

    key: Hashable
    most: int


def kind_of(shape: Sequence[int], pixels: float, device: torch.device) -> Kind:
    """The kind of an image.

    Args:
        shape: Its rows, columns and more.
        pixels: What the network sees of it at once, as a share of the image: largest scale, mirror image.
        device: Where it computes.
    """
    height, width, *_ = shape
    return Kind((height, width), max(1, int(PIXELS[device.type] / (height * width * pixels))))


def image_reader(device: torch.device) -> Callable[[Path], np.ndarray]:
    """Reads images for a device: those for a GPU into memory from which it copies by itself."""
    if device.type != "cuda":
        return read_image

    def read(path: Path) -> np.ndarray:
        # The array is a view of the tensor's memory, and copies from it do not wait.
        pinned: np.ndarray = torch.from_numpy(read_image(path)).pin_memory().numpy()
        return pinned

    return read


def bytes_of(record: ImageRecord) -> int:
    """Bytes of an image of the index once it is read."""
    return CHANNELS * record.width * record.height


def bytes_of_file(path: Path) -> int:
    """Bytes of an image once it is read, from the head of its file; 0 where there is none to be made out."""
    try:
        with Image.open(path) as image:
            return CHANNELS * image.width * image.height
    except (
        Exception
    ):  # Pillow raises almost anything of damaged data; reading it says what is wrong
        return 0


class ReadableImages:
    """Images by name, read ahead, in order; those that cannot be read are reported and left out.

    Attributes:
        broken: Names of those that were left out, so far.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        device: torch.device,
        threads: int,
        broken: Iterable[str] = (),
    ) -> None:
        """Take the images.

        Args:
            files: By name.
            device: That a network sees them on.
            threads: That read ahead.
            broken: Names of more that were asked for, and cannot be read for another reason.
        """
        self.broken = list(broken)
        self._files, self._device, self._threads = files, device, threads
        self._asked = len(files) + len(self.broken)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        read_image = image_reader(self._device)

        def read(one: tuple[str, Path]) -> tuple[str, np.ndarray | InputError]:
            name, path = one
            try:
                return name, read_image(path)
            except InputError as error:
                return name, error

        files, threads = self._files.items(), self._threads
        for name, image in in_threads(read, files, threads, lambda one: bytes_of_file(one[1])):
            if isinstance(image, InputError):
                logger.error("skipped: %s", image)
                self.broken.append(name)
            else:
                yield name, image

    def check(self, lack: str, place: Path) -> None:
        """See, when all is done, that none was left out.

        Args:
            lack: What those that were have not got.
            place: Where the results of the others are.

        Raises:
            InputError: Some were; names them.
        """
        if self.broken:
            named = ", ".join(self.broken[:5]) + (" …" if len(self.broken) > 5 else "")
            raise InputError(
                f"{len(self.broken)} of {self._asked} images could not be read and have no {lack}: {named}; "
                f"replace or rename them and run again. The others are in {place}"
            )


def in_batches(
    elements: Iterable[Element],
    together: Callable[[list[Element]], Sequence[Result]],
    kind: Callable[[Element], Kind],
    weigh: Callable[[Element], int],
) -> Iterator[Result]:
    """Compute elements of one kind together; results come in the order of the elements.

    An element waits for others of its kind until there are enough of them, or `WINDOW` elements or
    `MOST_WAITING` bytes have come since.

    Args:
        elements: Drawn as they are needed.
        together: Results of some elements of one kind. Where the GPU's memory does not suffice, it is
            called with halves.
        kind: Of an element.
        weigh: Bytes of an element and its result.
    """
    held: dict[int, tuple[Element, Hashable]] = {}
    waiting: dict[Hashable, list[int]] = {}
    done: dict[int, Result] = {}
    weights: dict[int, int] = {}
    given = 0

    def compute(key: Hashable) -> None:
        positions = waiting.pop(key)
        chosen = [held.pop(position)[0] for position in positions]
        results = in_halves(lambda some: together(chosen[some]), len(chosen))
        done.update(zip(positions, results, strict=True))

    def ready() -> Iterator[Result]:
        nonlocal given
        while given in done:
            del weights[given]
            yield done.pop(given)
            given += 1

    for position, element in enumerate(elements):
        key, most = kind(element)
        held[position], weights[position] = (element, key), weigh(element)
        waiting.setdefault(key, []).append(position)
        if len(waiting[key]) >= most:
            compute(key)
        yield from ready()
        while held and (position - given >= WINDOW or sum(weights.values()) > MOST_WAITING):
            compute(held[given][1])
            yield from ready()
    for key in list(waiting):
        compute(key)
        yield from ready()


def one_by_one(
    together: Callable[[list[Element]], Sequence[Result]],
    elements: list[Element],
    name: Callable[[Element], str],
) -> list[Result]:
    """Results of elements; a user's mistake names the one that it is of.

    Raises:
        InputError: `together` raises it, of one element alone.
    """
    try:
        return list(together(elements))
    except InputError as error:
        if len(elements) == 1:
            raise InputError(f"image {name(elements[0])}: {error}") from None
    return [result for one in elements for result in one_by_one(together, [one], name)]


class _Writer:
    """A thread that writes what it is given, in order."""

    def __init__(self, write: Callable[..., None]) -> None:
        self._write = write
        self._unwritten: deque[tuple[object, ...]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._unwritten or self._ended)
                if not self._unwritten:
                    return
                result = self._unwritten[0]
            try:
                self._write(*result)
            except BaseException as error:
                self.give_up(error)
            with self._changed:
                if self._unwritten:
                    self._unwritten.popleft()
                    self._bytes -= _bytes_of(result)
                self._changed.notify_all()

    def give_up(self, error: BaseException | None = None) -> None:
        """Write nothing any more."""
        with self._changed:
            self._error = self._error or error
            self._ended = True
            self._unwritten.clear()
            self._bytes = 0
            self._changed.notify_all()

    def put(self, *result: object) -> None:
        """Have something written; waits while much is unwritten. Raises what an earlier writing raised."""
        more = _bytes_of(result)
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._has_room(more))
            if self._error is not None:
                raise self._error
            self._unwritten.append(result)
            self._bytes += more
            self._changed.notify_all()

    def _has_room(self, more: int) -> bool:
        if not self._unwritten:
            return True
        return len(self._unwritten) < UNWRITTEN and self._bytes + more <= MOST_WAITING

    def end(self) -> None:
        """Wait until all is written that will be; raises what a writing raised."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error


def _bytes_of(result: tuple[object, ...]) -> int:
    return sum(part.nbytes for part in result if isinstance(part, np.ndarray))


@contextmanager
def written_behind(write: Callable[..., None]) -> Iterator[Callable[..., None]]:
    """A function that has a thread call `write` with its arguments, call by call in order.

    What `write` raises is raised by the next call, or at the end of the block; after that, and after an error
    in the block, nothing is written any more. When the block is left nothing is being written.
    """
    writer = _Writer(write)
    try:
        yield writer.put
    except BaseException as error:
        writer.give_up(error)
        raise
    finally:
        writer.end()
