"""The one training loop."""

import csv
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from workflow_scripts.console.job import WarningSignals, start_worker
from workflow_scripts.console.progress import progress
from workflow_scripts.errors import InputError
from workflow_scripts.settings.training import TrainingSettings
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.training.checkpoint import Checkpoint
from workflow_scripts.training.distributed import World
from workflow_scripts.training.feature_images import FeatureImages
from workflow_scripts.training.launch import check_batch
from workflow_scripts.training.optimisers import build_optimiser, schedule_factor
from workflow_scripts.training.precision import (
    autocast,
    choose_dtype,
    compile_network,
    set_arithmetic,
)
from workflow_scripts.training.randomness import STEP, StepSampler, seed_torch, steps_per_epoch
from workflow_scripts.training.training_images import TrainingImages

logger = logging.getLogger(__name__)

Batch = dict[str, Tensor]
# Steps between two looks at the loss. A look waits for the device, which has nothing to do meanwhile.
STEPS_BETWEEN_LOOKS = 20
WAITING_LIMIT = 0.2
HISTORY_COLUMNS = ("epoch", "steps", "loss", "learning_rate", "images_per_second", "waiting")


class Task(Protocol):
    """What a stage teaches its network.

    A loss is a sum over parts of a batch, divided by counts of the *whole* batch: so it does not depend
    on how many processes or micro-batches share the batch.
    """

    def counts(self, batch: Batch) -> Tensor:
        """Numbers the means of the loss are over, for this part of the batch: [n]."""

    def loss(self, network: nn.Module, batch: Batch, counts: Tensor) -> Tensor:
        """Loss of this part, given the counts of the whole batch."""


@dataclass
class History:
    """One row an epoch, kept in the checkpoint too."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write training.csv."""
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, HISTORY_COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)


@dataclass(frozen=True)
class Run:
    """Everything about a run that does not change its result, and its seed.

    Attributes:
        checkpoint: Where it resumes from.
        seed: Seed of all randomness.
        world: The processes.
        workers: Loader processes.
        checkpoint_seconds: Time between checkpoints.
        description: Shown in front of the progress bar.
    """

    checkpoint: Checkpoint
    seed: int
    world: World
    workers: int
    checkpoint_seconds: float
    description: str


def total_steps(settings: TrainingSettings, images: int) -> int:
    """Steps of the whole run."""
    steps = settings.epochs * steps_per_epoch(images, settings.batch_size)
    return min(steps, settings.max_steps or steps)


def _parts(batch: Batch, size: int) -> Iterator[Batch]:
    """Micro-batches of at most `size` images."""
    for start in range(0, len(batch["image"]), size):
        yield {name: tensor[start : start + size] for name, tensor in batch.items()}


def _to_device(batch: Batch, device: torch.device, images: Any) -> Batch:
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    if isinstance(images, TrainingImages):
        moved = images.normalised(moved)
    # Features come in half precision.
    moved["image"] = moved["image"].to(torch.float32, memory_format=torch.channels_last)
    return moved


class Trainer:
    """Takes steps with one network."""

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        settings: TrainingSettings,
        dtype: torch.dtype,
        run: Run,
    ) -> None:
        self.network, self.task, self.run = network, task, run
        self.optimiser = build_optimiser(network, settings.optimiser)
        self.wrapped = run.world.wrap(network)
        self.dtype = dtype
        self.scaler = torch.amp.GradScaler(
            run.world.device.type,
            enabled=dtype == torch.float16 and run.world.device.type == "cuda",
        )
        self.micro_batch = settings.batch_size
        self.fits = run.world.processes == 1

    @property
    def state(self) -> dict[str, Any]:
        """What the next step depends on beside the tensors (JSON)."""
        return {"micro_batch": self.micro_batch, "scaler": self.scaler.state_dict()}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from an earlier `state`; the device may be another one."""
        self.micro_batch = state["micro_batch"]
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])

    def _backward(self, batch: Batch, counts: Tensor, exchange: bool = True) -> Tensor:
        """Gradients of the whole batch, micro-batch by micro-batch; returns this process's loss.

        With `exchange` they are averaged over the processes, along with the last micro-batch.
        """
        total = torch.zeros((), dtype=torch.float64, device=self.run.world.device)
        parts = list(_parts(batch, self.micro_batch))
        for number, part in enumerate(parts, start=1):
            last = number == len(parts)
            synchronised = self.run.world.processes == 1 or (last and exchange)
            with nullcontext() if synchronised else self.wrapped.no_sync():  # type: ignore[operator]
                with autocast(self.dtype, self.run.world.device):
                    loss = self.task.loss(self.wrapped, part, counts)
                # Gradients are averaged over the processes, the loss is a sum over them.
                self.scaler.scale(loss * self.run.world.processes).backward()
            total += loss.detach()
        return total.float()

    def _fit(self, batch: Batch, counts: Tensor) -> None:
        """Find a micro-batch that fits into every process's memory, before the first step.

        Should one of several processes fail amid the exchange of gradients, the others would wait for
        it. All batches are of one size, so that the first one tells. Random numbers stay as they were.
        """
        world = self.run.world
        devices = [world.device] if world.device.type == "cuda" else []
        while not self.fits:
            self.optimiser.zero_grad(set_to_none=True)
            failed = False
            try:
                with torch.random.fork_rng(devices):
                    self._backward(batch, counts, exchange=False)
            except torch.cuda.OutOfMemoryError:
                failed = True
            self.fits = not any(world.any(failed))
            if not self.fits:
                self._halve(batch)

    def _halve(self, batch: Batch) -> None:
        """Go on with smaller micro-batches.

        Raises:
            InputError: They hold one image already.
        """
        if self.micro_batch == 1:
            raise InputError(
                "the GPU's memory does not suffice for one image; lower `augmentation.crop` or use a "
                "larger GPU"
            )
        self.micro_batch = max(1, min(self.micro_batch, len(batch["image"])) // 2)
        torch.cuda.empty_cache()
        logger.warning(
            "out of GPU memory: going on with micro-batches of %d, same effective batch",
            self.micro_batch,
        )

    def step(self, batch: Batch) -> Tensor:
        """One step; returns the loss of this process's part of the batch, as yet on the device.

        Where a GPU's memory does not suffice the micro-batch is halved and the step done again.
        """
        world = self.run.world
        counts = world.sum(self.task.counts(batch))
        if not self.fits:
            self._fit(batch, counts)
        while True:
            self.optimiser.zero_grad(set_to_none=True)
            try:
                loss = self._backward(batch, counts)
                break
            except torch.cuda.OutOfMemoryError:
                if world.processes > 1:
                    raise
            self._halve(batch)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return loss


class Losses:
    """The losses of the steps, which stay on the device until somebody looks at them."""

    def __init__(self, world: World, first: int) -> None:
        self._world = world
        self._pending: list[Tensor] = []
        self._step = first

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, loss: Tensor) -> None:
        """The loss of the next step, of this process's part of the batch."""
        self._pending.append(loss)

    def look(self) -> list[float]:
        """Losses since the last look, over all processes; every process must look at the same steps.

        Raises:
            InputError: One is not finite.
        """
        if not self._pending:
            return []
        losses: list[float] = self._world.sum(torch.stack(self._pending)).tolist()
        self._pending.clear()
        for loss in losses:
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is {loss} at step {self._step}: lower `training.optimiser.learning_rate`"
                )
            self._step += 1
        return losses


@contextmanager
def _loader_processes() -> Iterator[None]:
    """Name the cause where a loader process has ended: torch raises it wherever its signal is heard.

    Raises:
        InputError: One has.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"a loader process has ended ({' '.join(str(error).split()):.300}). As a rule memory did not "
            "suffice, or /dev/shm is small: give the job more `mem_mb`, or fewer loader processes "
            "(`--workers`), and run again"
        ) from error


@_loader_processes()
def train(
    network: nn.Module,
    task: Task,
    images: TrainingImages | FeatureImages,
    settings: TrainingSettings,
    bfloat16_pays: bool,
    run: Run,
) -> History:
    """Train a network in place, from its checkpoint if there is one.

    Raises:
        InputError: The loss is no longer finite, or memory does not suffice.
        SystemExit: The scheduler asked to stop (SIGTERM, SIGUSR1); the state is saved first.
    """
    world = run.world
    check_batch(settings.batch_size, world.processes)
    set_arithmetic(settings.precision)
    dtype = choose_dtype(settings.precision, bfloat16_pays, world.device)
    network.to(world.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    if settings.compile:
        compile_network(network, world.device)
    trainer = Trainer(network, task, settings, dtype, run)
    steps, an_epoch = (
        total_steps(settings, len(images)),
        steps_per_epoch(len(images), settings.batch_size),
    )
    factor = schedule_factor(settings.optimiser.schedule, steps)
    peaks = [group["lr"] for group in trainer.optimiser.param_groups]
    history, first, losses = History(), 0, list[float]()
    restored = run.checkpoint.restore(network, trainer.optimiser)
    if restored:
        first, notes = restored
        history.rows, losses = notes["rows"], notes["losses"]
        trainer.resume(notes["trainer"])
        logger.info("resuming at step %d of %d", first, steps)
    arithmetic = "tf32" if settings.precision == "tf32" else str(dtype).removeprefix("torch.")
    groups = trainer.optimiser.param_groups
    learnt = sum(tensor.numel() for group in groups for tensor in group["params"])
    logger.info(
        "%d images, %d steps of %d images, %s parameters learn, %s on %s, channels_last, %d process(es), "
        "%d loader worker(s)",
        len(images), steps, settings.batch_size, f"{learnt:,}", arithmetic, world.device, world.processes,
        run.workers,
    )  # fmt: skip
    sampler = StepSampler(
        run.seed, len(images), settings.batch_size, first, steps, world.rank, world.processes
    )
    loader: DataLoader[Batch] = DataLoader(
        images,  # type: ignore[arg-type]
        batch_sampler=sampler,
        num_workers=run.workers,
        worker_init_fn=start_worker,
        pin_memory=world.device.type == "cuda",
        persistent_workers=run.workers > 0,
    )
    bar = progress(
        total=steps * settings.batch_size,
        initial=first * settings.batch_size,
        description=run.description,
    )
    saved = epoch_start = time.monotonic()
    waited, timed_from = 0.0, first
    stop_asked = WarningSignals()
    batches = iter(loader)
    unseen = Losses(world, first)
    for step in range(first, steps):
        asked = time.monotonic()
        batch = _to_device(next(batches), world.device, images)
        waited += time.monotonic() - asked
        for group, peak in zip(trainer.optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * factor(step)
        seed_torch(run.seed, STEP, step, world.rank)
        unseen.add(trainer.step(batch))
        bar.update(settings.batch_size)
        last = step + 1 == steps
        due = world.leads and time.monotonic() - saved > run.checkpoint_seconds
        asked_to_stop, due = world.any(stop_asked.received, due)
        ends_epoch = (step + 1) % an_epoch == 0 or last
        if len(unseen) == STEPS_BETWEEN_LOOKS or ends_epoch or asked_to_stop or due:
            losses += unseen.look()
            bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
        if ends_epoch:
            now = time.monotonic()
            history.rows.append({
                "epoch": step // an_epoch + 1,
                "steps": step + 1,
                "loss": sum(losses) / len(losses),
                "learning_rate": peaks[0] * factor(step),
                "images_per_second": (step + 1 - timed_from) * settings.batch_size
                / max(now - epoch_start, 1e-9),
                "waiting": waited / max(now - epoch_start, 1e-9),
            })  # fmt: skip
            epoch_start, timed_from, waited, losses = now, step + 1, 0.0, []
        if asked_to_stop or due:
            if world.leads:
                notes = {"rows": history.rows, "losses": losses, "trainer": trainer.state}
                run.checkpoint.save(network, trainer.optimiser, step + 1, notes)
            saved = time.monotonic()
        if asked_to_stop and not last:
            bar.close()
            logger.warning(
                "asked to stop: saved at step %d of %d, run again to resume", step + 1, steps
            )
            raise SystemExit(stop_asked.exit_code)
    bar.close()
    waiting = sum(row["waiting"] for row in history.rows) / max(len(history.rows), 1)
    logger.info("the device waited for images %.0f %% of the time", 100 * waiting)
    if waiting > WAITING_LIMIT:
        logger.warning("that is much: give the rule more threads, or store the images smaller")
    return history
