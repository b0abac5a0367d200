"""Bytes that the activations of an image take on disk."""

import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tools.benchmarks.comparison import Comparison
from tools.benchmarks.scenes import SCALES, scenes
from workflow_scripts.refinement.thresholding import local_labels
from workflow_scripts.storage.activation_maps import CamMaps
from workflow_scripts.storage.activations import ActivationReader, ActivationWriter

THRESHOLD = 0.30


def measure(rounds: int = 3, *, images: int = 4, height: int = 375, width: int = 500) -> Comparison:
    """Compare sizes, one pair an image; they are the same in every round, one is enough."""
    pairs, equal = [], []
    with TemporaryDirectory() as folder:
        for scene in scenes(images, height, width):
            full = scene.activations()
            pickled = pickle.dumps({"keys": np.array(scene.labels), "high_res": full})
            shard = Path(folder) / f"{scene.id}.safetensors"
            with ActivationWriter(shard, [scene], CamMaps) as writer:
                writer.write(scene.id, scene.cam_maps())
            with ActivationReader(shard) as reader:
                restored = reader.read_full(scene.id, height, width)
            pairs.append((float(len(pickled)), float(shard.stat().st_size)))
            same = local_labels(full, THRESHOLD) == local_labels(restored, THRESHOLD)
            equal.append(same.mean())
    return Comparison(
        pairs,
        "bytes an image",
        float(np.mean(equal)),
        "equal labels",
        f"{width}×{height}, 2 classes, {len(SCALES)} scales; reference: pickled float32 of full size",
    )
