"""Dense CRF as it is usually run: one image after another, one run a problem."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tools.benchmarks.pydensecrf_reference import marginals
from workflow_scripts.settings.refinement import CrfSettings


def refine(
    image: NDArray[np.uint8], unary: ArrayLike, settings: CrfSettings
) -> NDArray[np.float32]:
    """What `refinement.dense_crf.refine` gives, by pydensecrf2."""
    energies = np.asarray(unary, np.float32)
    problems = energies.reshape(-1, *energies.shape[-3:])
    return np.stack([marginals(image, one, settings) for one in problems]).reshape(energies.shape)
