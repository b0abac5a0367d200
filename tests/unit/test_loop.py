"""The training loop on a tiny network: resume, signals, workers, processes."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import nn

from tests.tiny_training import SmallMemory, TinyImages, TinyTask, tiny_settings, tiny_train
from workflow_scripts.errors import InputError
from workflow_scripts.training import loop
from workflow_scripts.training.distributed import World
from workflow_scripts.training.loop import HISTORY_COLUMNS, total_steps

RESUME = ".model.safetensors.resume"


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signal handlers as they were."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    for name, tensor in first.items():
        assert tensor.equal(second[name]), name


def losses(history) -> list[float]:
    return [row["loss"] for row in history.rows]


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, optimiser: str, stop_at: int):
    settings = tiny_settings(optimiser)
    expected, whole = tiny_train(tmp_path / "whole", settings)
    with pytest.raises(SystemExit) as ended:
        tiny_train(tmp_path / "cut", settings, TinyTask(stop_at))
    assert ended.value.code == 128 + signal.SIGTERM
    assert (tmp_path / "cut" / RESUME).exists()
    task = TinyTask()
    found, resumed = tiny_train(tmp_path / "cut", settings, task)
    assert task.steps == 6 - stop_at
    assert_same(expected, found)
    assert losses(resumed) == losses(whole)
    assert [row["steps"] for row in resumed.rows] == [2, 4, 6]


def test_a_power_cut_resumes_from_the_last_checkpoint(tmp_path):
    settings = tiny_settings()
    expected, _ = tiny_train(tmp_path / "whole", settings)
    with pytest.raises(RuntimeError, match="power cut"):
        tiny_train(tmp_path / "cut", settings, TinyTask(5, fail=True), checkpoint_seconds=0)
    task = TinyTask()
    found, _ = tiny_train(tmp_path / "cut", settings, task)
    assert task.steps == 2
    assert_same(expected, found)


def test_the_warning_signal_of_slurm_saves_too(tmp_path):
    with pytest.raises(SystemExit) as ended:
        tiny_train(tmp_path, tiny_settings(), TinyTask(2, signal.SIGUSR1))
    assert ended.value.code == 128 + signal.SIGUSR1
    assert (tmp_path / RESUME).exists()


def test_a_signal_in_the_last_step_lets_the_run_end(tmp_path):
    expected, _ = tiny_train(tmp_path / "whole", tiny_settings())
    found, history = tiny_train(tmp_path / "late", tiny_settings(), TinyTask(6))
    assert_same(expected, found)
    assert history.rows[-1]["steps"] == 6


def test_a_checkpoint_of_another_run_is_not_used(tmp_path):
    with pytest.raises(SystemExit):
        tiny_train(tmp_path, tiny_settings(), TinyTask(2))
    task = TinyTask()
    tiny_train(tmp_path, tiny_settings(), task, fingerprint="b")
    assert task.steps == 6


def test_loader_processes_do_not_change_the_result(tmp_path):
    expected, _ = tiny_train(tmp_path / "none", tiny_settings())
    found, _ = tiny_train(tmp_path / "two", tiny_settings(), workers=2)
    assert_same(expected, found)


def test_seeds_change_the_result(tmp_path):
    first, _ = tiny_train(tmp_path / "0", tiny_settings())
    second, _ = tiny_train(tmp_path / "1", tiny_settings(), seed=4)
    assert not first["head.weight"].equal(second["head.weight"])


def test_max_steps_ends_early_and_on_a_shorter_schedule(tmp_path):
    settings = tiny_settings(max_steps=3)
    assert total_steps(settings, 7) == 3
    assert total_steps(tiny_settings(), 7) == 6
    task = TinyTask()
    _, history = tiny_train(tmp_path, settings, task)
    assert task.steps == 3
    assert [(row["epoch"], row["steps"]) for row in history.rows] == [(1, 2), (2, 3)]


def test_history_is_a_table_of_one_row_an_epoch(tmp_path):
    _, history = tiny_train(tmp_path, tiny_settings(epochs=2))
    history.write(tmp_path / "training.csv")
    with (tmp_path / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HISTORY_COLUMNS
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    assert float(rows[0]["learning_rate"]) > float(rows[1]["learning_rate"]) > 0


def test_training_lowers_the_loss(tmp_path):
    _, history = tiny_train(tmp_path, tiny_settings(epochs=15), dropout=0)
    assert losses(history)[-1] < 0.9 * losses(history)[0]


def test_a_loss_that_is_not_finite_says_what_to_do(tmp_path):
    settings = tiny_settings("sgd")
    wild = settings.model_copy(
        update={"optimiser": settings.optimiser.model_copy(update={"learning_rate": 1e30})}
    )
    with pytest.raises(InputError, match=r"loss is \S+ at step \d+: lower .*learning_rate"):
        tiny_train(tmp_path, wild)


def test_a_loss_that_is_not_finite_ends_the_run_within_so_many_steps(tmp_path, monkeypatch):
    """And no checkpoint of it is kept."""
    monkeypatch.setattr(loop, "STEPS_BETWEEN_LOOKS", 5)
    task = TinyTask(nan_at=7)
    with pytest.raises(InputError, match="loss is nan at step 6"):
        tiny_train(tmp_path, tiny_settings(epochs=20), task, images=100, checkpoint_seconds=1e9)
    assert task.steps == 10
    with pytest.raises(InputError, match="loss is nan at step 6"):
        tiny_train(tmp_path, tiny_settings(epochs=20), TinyTask(nan_at=7), checkpoint_seconds=0)
    task = TinyTask()
    tiny_train(tmp_path, tiny_settings(epochs=20), task)
    assert task.steps == 40 - 6


def test_how_often_losses_are_looked_at_changes_nothing(tmp_path, monkeypatch):
    expected, often = tiny_train(tmp_path / "often", tiny_settings())
    monkeypatch.setattr(loop, "STEPS_BETWEEN_LOOKS", 1)
    found, seldom = tiny_train(tmp_path / "seldom", tiny_settings())
    assert_same(expected, found)
    assert losses(seldom) == losses(often)


def test_steps_do_not_wait_for_the_device(tmp_path, monkeypatch):
    """Nothing is read from it but the losses, once an epoch here; torch draws seeds on the CPU."""
    read = []
    whole = torch.Tensor.item

    def item(tensor):
        read.append(tensor)
        return whole(tensor)

    monkeypatch.setattr(torch.Tensor, "item", item)
    looks = []
    look = loop.Losses.look
    monkeypatch.setattr(loop.Losses, "look", lambda self: looks.append(len(self)) or look(self))
    tiny_train(tmp_path, tiny_settings("sgd"), images=20)
    assert looks == [5, 5, 5]
    assert [tensor for tensor in read if tensor.is_floating_point()] == []


def test_a_killed_loader_process_ends_the_run_with_a_word_on_memory(tmp_path):
    class Killed(TinyImages):
        def __getitem__(self, key):
            if torch.utils.data.get_worker_info() is not None and key[1] == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(key)

    with pytest.raises(InputError, match=r"a loader process has ended .* memory"):
        tiny_train(tmp_path, tiny_settings(), images=Killed(7), workers=1)


def test_a_long_folder_for_temporary_files(tmp_path):
    """The sockets by which loader processes deliver images lie in it, and have short names alone."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.tiny_training import tiny_settings, tiny_train\n"
        "from workflow_scripts.console.job import use_short_socket_paths\n"
        "use_short_socket_paths()\n"
        "print(tiny_train(Path(sys.argv[1]), tiny_settings(), workers=1)[1].rows[-1]['steps'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "TMPDIR": str(folder)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "6\n", done.stderr


def test_a_loader_process_that_cannot_deliver_ends_the_run(tmp_path):
    """Without the short paths its sockets cannot be made: it must not be waited for."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.tiny_training import tiny_settings, tiny_train\n"
        "tiny_train(Path(sys.argv[1]), tiny_settings(), workers=1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "TMPDIR": str(folder)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "InputError: a loader process has ended" in done.stderr


def test_a_batch_that_processes_cannot_share(tmp_path):
    with pytest.raises(InputError, match="batch_size: 4 images cannot be shared evenly by 3"):
        tiny_train(tmp_path, tiny_settings(), world=World(0, 3, torch.device("cpu")))


def _one_of_two(rank: int, port: int, folder: str, room: int | None) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2",
        "RANK": str(rank), "LOCAL_RANK": str(rank),
    }  # fmt: skip
    torch.set_num_threads(1)
    world = World.join("cpu")
    task = SmallMemory(room) if room and rank == 1 else TinyTask()
    weights, history = tiny_train(
        Path(folder), tiny_settings("sgd", epochs=20), task, images=4, dropout=0, world=world
    )
    assert task.batches[-1] == (room or 2)
    result = {"losses": losses(history), "head": weights["head.weight"].flatten().tolist()}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(result))
    world.leave()


@pytest.mark.parametrize("room", [None, 1], ids=["enough memory", "one GPU is smaller"])
def test_two_processes_learn_what_one_does(tmp_path, room):
    """20 steps with batches in which one process often has no foreground at all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_one_of_two, (port, str(tmp_path), room), nprocs=2)
    weights, history = tiny_train(
        tmp_path / "alone", tiny_settings("sgd", epochs=20), images=4, dropout=0
    )
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert len(found["losses"]) == 20
        assert found["losses"] == pytest.approx(losses(history), abs=1e-4)
        assert found["head"] == pytest.approx(weights["head.weight"].flatten().tolist(), abs=1e-4)


def test_micro_batches_give_the_gradients_of_the_batch(tmp_path):
    """What running out of GPU memory leads to: halves of a batch, the same step."""
    from tests.tiny_training import CPU, TinyImages, TinyNetwork
    from workflow_scripts.training.checkpoint import Checkpoint
    from workflow_scripts.training.loop import Run, Trainer

    run = Run(Checkpoint(tmp_path / "m", "a"), 0, World(0, 1, CPU), 0, 1e9, "tiny")
    images = [TinyImages(4)[0, number] for number in range(4)]
    batch = {key: torch.stack([torch.from_numpy(i[key]) for i in images]) for key in images[0]}
    weights, totals = [], []
    for size in (4, 2, 1):
        torch.manual_seed(0)
        network = TinyNetwork(dropout=0).train()
        trainer = Trainer(network, TinyTask(), tiny_settings("sgd"), torch.float32, run)
        trainer.micro_batch = size
        totals.append(trainer.step(batch).item())
        weights.append(network.head.weight.detach())
    assert totals[1:] == pytest.approx([totals[0]] * 2, rel=1e-5)
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights[2], weights[0], rtol=1e-4, atol=1e-6)


def test_a_compiled_network_learns_the_same(tmp_path, monkeypatch):
    """Traced but not compiled, which takes minutes; a second run resumes."""
    whole, compiled = nn.Module.compile, []

    def traced(network: nn.Module) -> None:
        compiled.append(network)
        whole(network, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", traced)
    expected, _ = tiny_train(tmp_path / "plain", tiny_settings())
    assert not compiled
    settings = tiny_settings(compile=True)
    with pytest.raises(SystemExit):
        tiny_train(tmp_path / "cut", settings, TinyTask(3))
    found, _ = tiny_train(tmp_path / "cut", settings)
    assert len(compiled) == 4
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor)


def test_where_nothing_can_be_compiled_it_is_said_before_training(tmp_path, monkeypatch):
    def no_compiler(graph, inputs):
        raise RuntimeError("no g++ on this machine")

    whole = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda network: whole(network, backend=no_compiler))
    task = TinyTask()
    with pytest.raises(InputError, match=r"training\.compile: .*no g\+\+"):
        tiny_train(tmp_path, tiny_settings(compile=True), task)
    assert task.steps == 0
