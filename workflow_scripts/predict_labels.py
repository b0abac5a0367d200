"""Say what new images show, with the classifier of a finished run: a table of their labels.

`label` needs to know what an image shows. Where nobody has looked yet, the classifier that the run's class
activation maps come from says it: the table holds the classes whose probability reaches `--probability`, and
all probabilities beside them. Look it through before you use it: a missing label is a missing object. An
image that cannot be read is reported and left out; the command then ends with exit code 2.
"""

import csv
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from workflow_scripts.console.progress import progress
from workflow_scripts.console.stage import PluggedFiles, run_stage
from workflow_scripts.datasets.files import UNDECODABLE, images_below
from workflow_scripts.datasets.index import read_classes
from workflow_scripts.doors.method import Method
from workflow_scripts.errors import InputError
from workflow_scripts.models.multi_scale import maps_at_scales
from workflow_scripts.models.trained import load_trained
from workflow_scripts.planning.configuration import WorkflowSettings, configuration_of_run
from workflow_scripts.settings.evaluation import PredictLabelsSettings
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.training.distributed import choose_device
from workflow_scripts.training.inference_pipeline import ReadableImages
from workflow_scripts.training.precision import autocast, inference_dtype

logger = logging.getLogger(__name__)

SEPARATOR = ";"


class Files(PluggedFiles):
    """Inputs and outputs."""

    run: Path = Field(description="folder of a finished run, results/<run>")
    images: Path = Field(description="folder of images, searched with its sub-folders")
    out: Path = Field(description="table to write (CSV: image, labels, probabilities)")
    method: str | None = Field(
        None,
        description="one of the run's methods, whose classifier, or that of its seeds, to use; the last if "
        "left out",
    )
    trial: int = Field(0, ge=0, description="trial of the run whose network to use")
    device: str = Field("auto", description="auto, cpu or cuda")


class ImageClassifier:
    """The classifier of a run that a method's activations come from, its own or that of its seeds."""

    def __init__(
        self, run: Path, settings: WorkflowSettings, trial: int, method: str, device: torch.device
    ) -> None:
        """Load the network.

        Args:
            run: Folder of a finished run.
            settings: Its resolved configuration.
            trial: Whose network to use.
            method: One of its methods.
            device: Where to compute.

        Raises:
            InputError: The network is not there, or none that the method rests on classifies images.
        """
        self.classes = read_classes(run / "dataset" / "classes.csv")
        self.method = classifying(settings, method)
        model = run / str(trial) / self.method / "model.safetensors"
        entry = settings.entry(self.method)
        self._method, self._network, description = load_trained(
            model, entry.name, self.classes, device
        )
        self._dtype, self._device = inference_dtype(description, device), device

    def probabilities(self, image: np.ndarray, scales: Sequence[float]) -> np.ndarray:
        """Probability of each class: uint8 [H, W, 3] → float32 [C].

        Logits are averaged over scales and mirror images.
        """

        def logits(views: torch.Tensor) -> torch.Tensor:
            found = self._method.image_logits(self._network, views)
            assert found is not None
            return found[:, :, None, None]

        backbone = self._network.backbone
        with autocast(self._dtype, self._device):
            views = maps_at_scales(image, scales, backbone, logits, self._device)
        # Of each scale, those of the image and its mirror image are added.
        mean = torch.cat([one.reshape(1, -1) for one in views]).mean(dim=0) / 2
        found: np.ndarray = torch.sigmoid(mean).cpu().numpy()
        return found


def classifying(settings: WorkflowSettings, method: str) -> str:
    """The method that says what whole images show: a method itself, or the first that it rests on.

    Raises:
        InputError: There is none.
    """
    found = _classifying(settings, method)
    if found is None:
        able = [name for name in settings.with_activations if _classifying(settings, name)]
        advice = (
            f"give --method {' or '.join(able)}" if able else "give a run of `cam`, for instance"
        )
        raise InputError(
            f"--method {method}: neither it nor what it learns from classifies images; {advice}"
        )
    return found


def _classifying(settings: WorkflowSettings, method: str) -> str | None:
    rests_on: str | None = method
    while rests_on is not None and rests_on not in settings.imports:
        if settings.entry(rests_on).image_logits is not Method.image_logits:
            return rests_on
        rests_on = settings.source(rests_on)
    return None


def labels_of(probabilities: np.ndarray, settings: PredictLabelsSettings) -> tuple[int, ...]:
    """Numbers of the classes that an image shows, from 1, by their probabilities float [C]."""
    shown = np.flatnonzero(probabilities >= settings.probability)
    if not len(shown) and settings.at_least_one:
        shown = np.array([probabilities.argmax()])
    return tuple((shown + 1).tolist())


def work(files: Files, settings: PredictLabelsSettings) -> None:
    """Write the table."""
    folder = images_below(files.images)
    device = choose_device(files.device)
    configuration = configuration_of_run(files.run)
    method = configuration.asked_for(files.method)
    classifier = ImageClassifier(files.run, configuration, files.trial, method, device)
    logger.info("classifier of `%s`, trial %d", classifier.method, files.trial)
    unnamed = folder.left_out.get(UNDECODABLE, ())
    images = ReadableImages(folder.files, device, files.threads, unnamed)
    with (
        atomic_path(files.out) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("image", "labels", *(f"probability of {c}" for c in classifier.classes)))
        for name, image in progress(images, total=len(folder.files), description="predict labels"):
            probabilities = classifier.probabilities(image, settings.scales)
            shown = labels_of(probabilities, settings)
            labels = SEPARATOR.join(classifier.classes[number - 1] for number in shown)
            writer.writerow((name, labels, *(f"{one:.4f}" for one in probabilities)))
    images.check("row", files.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_stage("predict_labels", __doc__, Files, PredictLabelsSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
