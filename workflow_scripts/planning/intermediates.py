"""What lies on the way to a run's results.

Snakemake makes a missing file if a target rule asks for it, or a job that runs. A job that fails leaves
nothing of its former output: if nobody else asked for that, what was made from it would pass as up to date,
and the next run would keep it. So the target rules ask for every job's output.
"""

from collections.abc import Iterable

from workflow_scripts.planning.targets import Targets
from workflow_scripts.settings.thresholds import AUTO, VALIDATION
from workflow_scripts.settings.workflow import AMN, CAM


class Intermediates(Targets):
    """Targets with the files on the way to them: an output of each job, of those alone that there are."""

    @property
    def intermediates(self) -> list[str]:
        """What `all` makes before it evaluates."""
        return self._intermediates([*self.training_shards, *self.pseudo_mask_shards])

    @property
    def training_intermediates(self) -> list[str]:
        """What `train_all` makes: pseudo-masks of the images that networks learn from alone."""
        return self._intermediates(self.training_shards)

    @property
    def amn_names(self) -> list[str]:
        """AMN and its variants, where this run has them."""
        return [name for name in self.methods if name in (AMN, *self.settings.variants)]

    @property
    def needed_methods(self) -> list[str]:
        """Methods that have activations, and those whose seeds they learn from."""
        sources = [self.settings.seeds_source(name) for name in self.amn_names]
        return list(dict.fromkeys([*self.methods, *sources]))

    def imported(self, kind: str) -> list[str]:
        """Methods whose `activations` or `seeds` are imported."""
        imports = self.settings.imports
        return [
            name for name in self.needed_methods if name in imports and getattr(imports[name], kind)
        ]

    def seed_chooser(self, method: str) -> str | None:
        """Rule that chooses the thresholds of a method's seeds: none for numbers and ready-made seeds."""
        if method in self.imported("seeds"):
            return None
        return self.settings.seed_settings(method).chosen_by

    def _shards_to_choose_on(self, *choosers: str | None) -> list[str]:
        """Shards by whose activations thresholds are chosen."""
        shards = {
            AUTO: self.training_shards,
            VALIDATION: self.shards(*self.settings.splits.thresholds),
        }
        return [shard for chooser in choosers if chooser in shards for shard in shards[chooser]]

    def _shards_with_seeds(self, refined: list[str]) -> dict[str, list[str]]:
        """Shards of which each method has seeds, given those of which there are refined activations."""
        own = self.training_shards if self.settings.boundary.enabled else []
        seeds = {name: [*self.activation_shards, *own] for name in self.methods}
        for name in self.amn_names:
            # AMN learns from these, and is conditioned on them wherever it has activations.
            read = [
                *self.training_shards,
                *self._shards_with_activations(name, seeds[name], refined),
            ]
            seeds.setdefault(self.settings.seeds_source(name), []).extend(read)
        return seeds

    def _shards_with_activations(
        self, method: str, seeds: list[str], refined: list[str]
    ) -> list[str]:
        """Shards of which a method has activations, given those of its seeds."""
        masks = refined if method in self.methods else []
        return [*seeds, *masks, *self._shards_to_choose_on(self.seed_chooser(method))]

    def _intermediates(self, masked: list[str]) -> list[str]:
        """All of them, if there are pseudo-masks of these shards."""
        refined = [*masked, *self._shards_to_choose_on(*self.sources)]
        files = [self.index, *self._models(), *self._thresholds()]
        for name, shards in self._shards_with_seeds(refined).items():
            files += self._of_shards(name, "seeds", shards, ".zip")
            shards = self._shards_with_activations(name, shards, refined)
            files += self._of_shards(name, "activations", shards, ".safetensors")
        for name in self.methods:
            if self.settings.boundary.enabled:
                files += self._of_shards(name, "propagated", refined, ".safetensors")
            for source in self.sources:
                files += self._of_shards(name, f"{source}/pseudo_masks", masked, ".zip")
        return files

    def _models(self) -> list[str]:
        """Networks before the segmentation networks."""
        cam = [CAM] if CAM in self.needed_methods else []
        models = self.of_methods("model.safetensors", methods=[*cam, *self.amn_names])
        if self.settings.boundary.enabled:
            models += self.of_methods("boundary", "model.safetensors")
        return models

    def _thresholds(self) -> list[str]:
        """Files of the thresholds that a rule chooses."""
        files = [
            file
            for source in self.chosen_sources
            for file in self.of_methods(source, "thresholds.json")
        ]
        for name in self.needed_methods:
            if chooser := self.seed_chooser(name):
                files += self.of_methods(chooser, "seed_thresholds.json", methods=[name])
        return files

    def _of_shards(self, method: str, place: str, shards: Iterable[str], suffix: str) -> list[str]:
        """Files of a method's shards, each once."""
        return [
            file
            for shard in dict.fromkeys(shards)
            for file in self.of_methods(place, shard + suffix, methods=[method])
        ]
