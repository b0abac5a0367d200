"""Which files of a run the report reads: what its rules declare as inputs.

Sweeps and evaluations are read too, but only where there are masks to compare with; `summarise` waits
for the same ones, which `Targets.evaluations` names.
"""

from workflow_scripts.planning.targets import Targets
from workflow_scripts.settings.checkpoints import BOUNDARY
from workflow_scripts.settings.workflow import TRUTH


class ReportFiles:
    """Inputs of the report's rules."""

    def __init__(self, plan: Targets) -> None:
        self._plan = plan
        self._trial = str(plan.trials[0])

    @property
    def histories(self) -> list[str]:
        """Training tables of all networks that were trained here."""
        plan = self._plan
        elsewhere = {*plan.settings.imports, *plan.settings.checkpoints.files}
        trained = [method for method in plan.methods if method not in elsewhere]
        histories = plan.of_methods("training.csv", methods=trained)
        if plan.settings.boundary.enabled:
            learnt = [name for name in plan.methods if f"{name}/{BOUNDARY}" not in elsewhere]
            histories += plan.of_methods(BOUNDARY, "training.csv", methods=learnt)
        return histories + [f"{folder}/training.csv" for folder in plan.segmentations]

    @property
    def activations(self) -> list[str]:
        """Activations of the trial whose images are shown."""
        return self._shown("activations", ".safetensors", self._plan.activation_shards)

    @property
    def sweeps(self) -> list[str]:
        """Sweeps of the trial whose images are shown; none without masks."""
        if not self._plan.has_masks:
            return []
        return self._shown("sweep", ".safetensors", self._plan.activation_shards)

    @property
    def seeds(self) -> list[str]:
        """Seeds of the trial whose images are shown."""
        return self._shown("seeds", ".zip", self._plan.activation_shards)

    @property
    def pseudo_masks(self) -> list[str]:
        """Pseudo-masks of the trial and the source that are shown."""
        plan = self._plan
        return self._shown(f"{plan.sources[0]}/pseudo_masks", ".zip", plan.pseudo_mask_shards)

    @property
    def predictions(self) -> list[str]:
        """Predictions of the networks of the trial and the source that are shown."""
        plan = self._plan
        shown = {plan.sources[0], TRUTH}
        return [
            f"{folder}/predictions/{shard}.zip"
            for folder in plan.segmentations
            if folder.startswith(plan.path(self._trial, "")) and folder.split("/")[-2] in shown
            for shard in plan.segmentation_shards
        ]

    @property
    def chosen_thresholds(self) -> list[str]:
        """Files of the thresholds that a rule chose."""
        plan = self._plan
        return [
            file
            for source in plan.chosen_sources
            for file in plan.of_methods(source, "thresholds.json")
        ]

    def _shown(self, place: str, suffix: str, shards: list[str]) -> list[str]:
        plan = self._plan
        shown = [shard for shard in shards if shard in plan.report_shards]
        return [
            plan.path(self._trial, method, place, shard + suffix)
            for method in plan.methods
            for shard in shown
        ]
