"""What a run is to end with."""

from workflow_scripts.planning.layout import Layout
from workflow_scripts.settings.workflow import FULL, TRUTH


class Targets(Layout):
    """A layout with the files that `all` and `summarise` ask for."""

    def of_methods(self, *pattern: str, methods: list[str] | None = None) -> list[str]:
        """Return a path below each trial and method; below all that have activations if not named."""
        chosen = self.methods if methods is None else methods
        return [
            self.path(str(trial), method, *pattern) for trial in self.trials for method in chosen
        ]

    @property
    def segmentations(self) -> list[str]:
        """Folders of all segmentation networks."""
        trained = [
            folder for source in self.sources for folder in self.of_methods(source, "segmentation")
        ]
        full = [FULL] if FULL in self.settings.methods else []
        return trained + self.of_methods(TRUTH, "segmentation", methods=full)

    @property
    def networks(self) -> list[str]:
        """Weights of all segmentation networks."""
        return [f"{folder}/model.safetensors" for folder in self.segmentations]

    @property
    def predictions(self) -> list[str]:
        """Predictions of all segmentation networks."""
        return [
            f"{folder}/predictions/{shard}.zip"
            for folder in self.segmentations
            for shard in self.segmentation_shards
        ]

    @property
    def training_half(self) -> list[str]:
        """All that is made without ground truth."""
        seeds = [
            file
            for shard in self.activation_shards
            for file in self.of_methods("seeds", f"{shard}.zip")
        ]
        return self.networks + self.predictions + seeds

    @property
    def evaluations(self) -> list[str]:
        """Everything that `summarise` reads; without masks only what seeds are composed of."""
        shards = self.activation_shards
        files = [file for shard in shards for file in self.of_methods("seeds", f"{shard}.json")]
        if not self.has_masks:
            return files
        for shard in shards:
            files += self.of_methods("sweep", f"{shard}.safetensors")
            if self.settings.boundary.enabled:
                files += self.of_methods("propagated_sweep", f"{shard}.safetensors")
            files += self.of_methods("evaluation", "seeds", f"{shard}.json")
            for source in self.sources:
                files += self.of_methods(source, "evaluation", "pseudo_masks", f"{shard}.json")
        for folder in self.segmentations:
            parent = folder.removesuffix("/segmentation")
            files += [
                f"{parent}/evaluation/segmentation/{shard}.json"
                for shard in self.segmentation_shards
            ]
            files.append(f"{folder}/figures.json")
        return files
