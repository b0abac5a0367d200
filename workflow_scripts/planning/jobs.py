"""Which jobs a configuration has, so that benchmarks of others do not count."""

import re
import shlex
from collections.abc import Iterable

from workflow_scripts.planning.intermediates import Intermediates
from workflow_scripts.settings.checkpoints import BOUNDARY
from workflow_scripts.settings.thresholds import AUTO, VALIDATION
from workflow_scripts.settings.workflow import CAM, FULL, TRUTH

# Rules that have one job.
SINGLE = (
    "prepare_dataset", "record_configuration", "summarise", "plot_figures", "make_gallery",
    "make_explorer", "make_pages", "render_report",
)  # fmt: skip


def _any(values: Iterable[str]) -> str:
    """A pattern of one of these values; empty if there are none."""
    found = [re.escape(value).replace(r"\-", "-") for value in dict.fromkeys(values)]
    return f"({'|'.join(found)})" if len(found) > 1 else "".join(found)


class Jobs(Intermediates):
    """Targets with patterns of the names of all jobs that make them: {rule}/{wildcards}."""

    def _networks(self, imported: bool) -> list[str]:
        """Folders of the networks before segmentation that are imported, or of those that are trained."""
        named = [name for name in self.needed_methods if name in (CAM, *self.amn_names)]
        if self.settings.boundary.enabled:
            named += [f"{method}/{BOUNDARY}" for method in self.methods]
        files = self.settings.checkpoints.files
        return [name for name in named if (name in files) == imported]

    def _chosen(self, chooser: str) -> list[str]:
        """Methods and places whose thresholds a rule chooses, "auto" or "validation"."""
        masks = self.methods if chooser in self.sources else []
        seeds = [name for name in self.needed_methods if self.seed_chooser(name) == chooser]
        return [f"{name}-thresholds" for name in masks] + [
            f"{name}-seed_thresholds" for name in seeds
        ]

    def _shards_of(self, *splits: str) -> str:
        """A pattern of all shards of some splits."""
        numbers = (name.rpartition("-")[2] for name in self.shards(*splits))
        return f"{_any(splits)}-{_any(numbers)}" if splits else ""

    @property
    def _sharded(self) -> dict[str, str]:
        """Patterns of shards: of all activations, evaluated ones, pseudo-masks, and predictions."""
        splits = self.settings.splits
        validation = splits.thresholds if self._chosen(VALIDATION) else ()
        propagated = validation if VALIDATION in self.sources else ()
        evaluated = splits.activations if self.has_masks else ()
        return {
            "made": self._shards_of(*splits.training, *splits.activations, *validation),
            "propagated": self._shards_of(*splits.training, *evaluated, *propagated),
            "masked": self._shards_of(*splits.training, *evaluated),
            "evaluated": self._shards_of(*evaluated),
            "predicted": self._shards_of(*splits.segmentation),
        }

    @property
    def job_patterns(self) -> list[str]:
        """Regular expressions of the names of all jobs, one or two for each rule."""
        shards = self._sharded
        trials, methods = _any(map(str, self.trials)), _any(self.methods)
        cam = CAM if CAM in self.needed_methods else ""
        amn = _any(self.amn_names)
        refined = _any(name for name in self.needed_methods if name not in self.imported("seeds"))
        learnt = methods if self.settings.boundary.enabled else ""
        trained = self._networks(imported=False)
        sources = _any(self.sources)
        full = [f"{FULL}-{TRUTH}"] if FULL in self.settings.methods else []
        networks = _any([*(f"{m}-{s}" for m in self.methods for s in self.sources), *full])
        truth = networks if self.has_masks else ""
        rows = [
            ("import_checkpoint", trials, _any(self._networks(imported=True))),
            ("train_cam", trials if CAM in trained else ""),
            ("infer_cam", cam and trials, shards["made"]),
            ("train_amn", trials, _any(name for name in self.amn_names if name in trained)),
            ("infer_amn", trials, amn, shards["made"]),
            ("import_activations", trials, _any(self.imported("activations")), shards["made"]),
            ("import_seeds", trials, _any(self.imported("seeds")), shards["made"]),
            ("refine_seeds", trials, refined, shards["made"]),
            ("choose_thresholds", trials, _any(self._chosen(AUTO))),
            ("validate_thresholds", trials, _any(self._chosen(VALIDATION))),
            (
                "train_boundary",
                trials,
                _any(m for m in self.methods if f"{m}/{BOUNDARY}" in trained),
            ),
            ("propagate", trials, learnt, shards["propagated"]),
            ("make_pseudo_masks", trials, methods, sources, shards["masked"]),
            ("train_segmentation", trials, networks),
            ("evaluate_segmentation", trials, networks, shards["predicted"]),
            ("sweep_thresholds", trials, methods, shards["evaluated"]),
            ("sweep_propagated", trials, learnt, shards["evaluated"]),
            ("evaluate_seeds", trials, methods, shards["evaluated"]),
            ("evaluate_masks", trials, methods, sources, "pseudo_masks", shards["evaluated"]),
            ("evaluate_masks", trials, truth, "segmentation", shards["predicted"]),
            ("record_figures", trials, truth),
        ]
        single = [f"{rule}/{rule}" for rule in SINGLE]
        return single + [f"{rule}/{'-'.join(parts)}" for rule, *parts in rows if all(parts)]

    @property
    def benchmark_flags(self) -> str:
        """Benchmarks of this configuration's jobs."""
        patterns = " ".join(map(shlex.quote, self.job_patterns))
        return f"--benchmarks {shlex.quote(self.path('benchmarks'))} --jobs {patterns}"
