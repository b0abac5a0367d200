"""The way of images through a network: what runs beside it, in which order, how much of it, and how it ends.

Nothing is timed. Whether one part waits for another is seen by having the other wait until the first is done.
"""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workflow_scripts.datasets import parallel
from workflow_scripts.datasets.parallel import in_threads
from workflow_scripts.errors import InputError
from workflow_scripts.training import inference_pipeline
from workflow_scripts.training.inference_pipeline import (
    UNWRITTEN,
    WINDOW,
    Kind,
    ReadableImages,
    bytes_of_file,
    image_reader,
    in_batches,
    kind_of,
    one_by_one,
    written_behind,
)

CPU = torch.device("cpu")
SECONDS = 30


class Passed:
    """Events by name; to wait for one that does not come fails."""

    def __init__(self) -> None:
        self._events: dict[object, threading.Event] = {}
        self._lock = threading.Lock()

    def _of(self, name: object) -> threading.Event:
        with self._lock:
            return self._events.setdefault(name, threading.Event())

    def now(self, name: object) -> None:
        self._of(name).set()

    def wait(self, name: object) -> None:
        assert self._of(name).wait(SECONDS), f"{name} did not come"


def one_at_a_time(element: object) -> Kind:
    return Kind(None, 1)


def nothing(element: object) -> int:
    return 0


def test_images_are_read_while_the_network_computes():
    passed = Passed()

    def read(number: int) -> int:
        passed.now(("read", number))
        return number

    def network(numbers: list[int]) -> list[int]:
        if numbers[0] < 9:
            passed.wait(("read", numbers[0] + 1))
        return numbers

    found = in_batches(in_threads(read, range(10), 1), network, one_at_a_time, nothing)
    assert list(found) == list(range(10))


def test_results_are_finished_and_written_while_the_network_computes():
    passed = Passed()
    written = []

    def network(numbers: list[int]) -> list[int]:
        if numbers[0] >= 4:
            passed.wait(("finished", numbers[0] - 4))
        if numbers[0] >= 5:
            passed.wait(("written", numbers[0] - 5))
        return numbers

    def finish(number: int) -> int:
        passed.now(("finished", number))
        return number

    def write(number: int) -> None:
        written.append(number)
        passed.now(("written", number))

    finished = in_threads(finish, in_batches(range(10), network, one_at_a_time, nothing), 1)
    with written_behind(write) as put:
        for number in finished:
            put(number)
    assert written == list(range(10))


def test_the_network_computes_while_a_result_is_written():
    passed = Passed()

    def write(number: int) -> None:
        if number < 5:
            passed.wait(("computed", number + 1))

    with written_behind(write) as put:
        for number in range(6):
            passed.now(("computed", number))
            put(number)


@pytest.mark.parametrize("most", [1, 3, 100])
def test_images_of_one_size_are_computed_together_and_come_in_order(most: int):
    sizes = np.random.default_rng(0).choice(list("aab"), 50)
    batches = []

    def together(some: list[tuple[int, str]]) -> list[int]:
        batches.append([size for _, size in some])
        return [number for number, _ in some]

    given = list(enumerate(sizes))
    found = list(in_batches(given, together, lambda one: Kind(one[1], most), nothing))
    assert found == list(range(50))
    assert all(len(set(batch)) == 1 and len(batch) <= most for batch in batches)
    full = [batch for batch in batches if len(batch) == most]
    assert len(batches) - len(full) <= 2


def test_an_image_of_a_rare_size_does_not_wait_for_ever():
    ahead = []
    drawn = 0

    def elements():
        nonlocal drawn
        for drawn in range(1000):
            yield "rare" if drawn == 0 else "usual"

    def together(some: list[str]) -> list[str]:
        ahead.append(drawn)
        return some

    for _ in in_batches(elements(), together, lambda one: Kind(one, 10), nothing):
        pass
    assert WINDOW in ahead
    assert ahead.index(WINDOW) == WINDOW // 10


def test_large_images_do_not_wait_for_others_of_their_size(monkeypatch):
    monkeypatch.setattr(inference_pipeline, "MOST_WAITING", 100)
    batches = []

    def together(some: list[int]) -> list[int]:
        batches.append(len(some))
        return some

    assert list(in_batches(range(9), together, lambda _: Kind(0, 9), lambda _: 40)) == list(
        range(9)
    )
    assert batches == [3, 3, 3]


def test_batches_follow_from_pixels():
    pixels = inference_pipeline.PIXELS["cuda"]
    assert kind_of((375, 500, 3), 8.0, torch.device("cuda")).most == pixels // (8 * 375 * 500) > 1
    assert kind_of((9000, 9000, 3), 8.0, torch.device("cuda")).most == 1
    assert kind_of((5, 5, 3), 1.0, CPU) == Kind((5, 5), 1)


@pytest.mark.parametrize("room", [1, 2, 3])
def test_a_batch_that_does_not_fit_is_computed_in_halves(room: int, caplog):
    tried = []

    def together(some: list[int]) -> list[int]:
        tried.append(len(some))
        if len(some) > room:
            raise torch.OutOfMemoryError
        return some

    assert list(in_batches(range(7), together, lambda _: Kind(0, 7), nothing)) == list(range(7))
    assert tried[0] == 7 and "7 images in two halves" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        list(in_batches(range(2), lambda _: together([0] * 9), lambda _: Kind(0, 2), nothing))


def test_a_mistake_in_a_batch_names_its_image():
    def together(some: list[int]) -> list[int]:
        if 2 in some:
            raise InputError("wrong")
        return some

    with pytest.raises(InputError, match=r"^image n2: wrong$"):
        one_by_one(together, [0, 1, 2, 3], lambda number: f"n{number}")
    assert one_by_one(together, [0, 1], str) == [0, 1]


def test_what_a_reader_raises_comes_in_its_turn():
    def read(number: int) -> int:
        if number == 3:
            raise InputError("no such image")
        return number

    found = []
    with pytest.raises(InputError, match="no such image"):
        for number in in_batches(
            in_threads(read, range(9), 2), lambda some: some, one_at_a_time, nothing
        ):
            found.append(number)
    assert found == [0, 1, 2]


def test_what_the_writer_raises_ends_it_all_and_nothing_is_written_any_more():
    written = []

    def write(number: int) -> None:
        if number == 2:
            raise InputError("the disk is full")
        written.append(number)

    with pytest.raises(InputError, match="the disk is full"), written_behind(write) as put:
        for number in range(1000):
            put(number)
    assert written == [0, 1]
    with pytest.raises(InputError, match="the disk is full"), written_behind(write) as put:
        put(2)


def test_an_error_elsewhere_stops_the_writer_and_stays_the_error():
    written = []
    passed = Passed()

    def write(number: int) -> None:
        passed.wait("error")
        written.append(number)

    with pytest.raises(KeyError, match="mine"), written_behind(write) as put:
        for number in range(5):
            put(number)
        passed.now("error")
        raise KeyError("mine")
    assert len(written) <= 5
    assert not any(thread.name == "writer" for thread in threading.enumerate())


def test_what_waits_is_bounded_in_number(monkeypatch):
    drawn = []

    def numbers():
        for number in range(100):
            drawn.append(number)
            yield number

    ahead = [len(drawn) - number for number in in_threads(lambda one: one, numbers(), 2)]
    assert max(ahead) == 5
    passed = Passed()
    unwritten = 0

    def write(number: int) -> None:
        if number == 0:
            passed.wait("filled")

    def fill(put) -> None:
        nonlocal unwritten
        for number in range(3 * UNWRITTEN):
            put(number)
            unwritten += 1
            if unwritten == UNWRITTEN:
                passed.now("filled")

    with written_behind(write) as put:
        fill(put)
    assert unwritten == 3 * UNWRITTEN


def test_what_waits_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(parallel, "MOST_WAITING", 100)
    monkeypatch.setattr(inference_pipeline, "MOST_WAITING", 100)
    drawn = []

    def numbers():
        for number in range(30):
            drawn.append(number)
            yield number

    found = in_threads(lambda one: one, numbers(), 8, lambda _: 45)
    assert max(len(drawn) - number for number in found) == 3
    alone = in_threads(lambda one: one, range(5), 8, lambda _: 1000)
    assert list(alone) == list(range(5))
    passed = Passed()
    put_already = []

    def write(image: np.ndarray) -> None:
        assert len(put_already) <= 3
        passed.now("written")

    with written_behind(write) as put:
        for _ in range(6):
            put(np.zeros(45, np.uint8))
            put_already.append(None)
            passed.wait("written")
            put_already.clear()


def test_images_that_cannot_be_read_are_left_out_and_named(tmp_path: Path, caplog):
    Image.new("RGB", (7, 5)).save(tmp_path / "fine.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    files = {name: tmp_path / name for name in ("broken.png", "fine.png", "missing.png")}
    images = ReadableImages(files, CPU, 2, ["unnamed"])
    ((name, fine),) = images
    assert name == "fine.png" and fine.shape == (5, 7, 3)
    assert images.broken == ["unnamed", "broken.png", "missing.png"]
    assert "not a readable image" in caplog.text and "no such image" in caplog.text
    with pytest.raises(
        InputError, match="3 of 4 images could not be read and have no row: unnamed"
    ):
        images.check("row", tmp_path / "out.csv")
    whole = ReadableImages({"fine.png": files["fine.png"]}, CPU, 2)
    assert len(list(whole)) == 1
    whole.check("row", tmp_path / "out.csv")
    assert bytes_of_file(files["fine.png"]) == fine.nbytes
    assert bytes_of_file(files["broken.png"]) == bytes_of_file(files["missing.png"]) == 0
    assert np.array_equal(image_reader(CPU)(files["fine.png"]), fine)
