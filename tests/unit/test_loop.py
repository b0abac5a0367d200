"""The training loop on a tiny network: resume, signals, workers, processes."""

import csv
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import nn

from tests.tiny_training import SmallMemory, TinyTask, tiny_settings, tiny_train
from workflow_scripts.errors import InputError
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


def test_a_batch_that_processes_cannot_share(tmp_path):
    with pytest.raises(InputError, match="batch_size: 4 cannot be shared by 3 processes"):
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
        totals.append(trainer.step(batch))
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
