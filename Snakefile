"""Weakly-supervised semantic segmentation, from image labels to a segmentation network."""

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.19")

# The stages are modules of this folder.
sys.path.insert(0, str(workflow.basedir))

from workflow_scripts.errors import InputError
from workflow_scripts.planning.environments import set_environment
from workflow_scripts.planning.workflow import Workflow
from workflow_scripts.report import catalogue

if "dataset" not in config:

    configfile: Path(workflow.basedir) / "config" / "config.yaml"


try:
    set_environment(str(workflow.basedir))
    plan = Workflow(config)
    plan.check_gpus(workflow.resource_settings.overwrite_resources)
    if workflow.is_main_process:
        plan.record_state()
except InputError as error:
    raise WorkflowError(str(error)) from None


include: "rules/all_rules.smk"
include: "rules/failure.smk"
include: "rules/start.smk"
include: "rules/configuration.smk"
include: "rules/dataset.smk"
include: "rules/features.smk"
include: "rules/methods.smk"
include: "rules/seeds.smk"
include: "rules/imports.smk"
include: "rules/boundary.smk"
include: "rules/thresholds.smk"
include: "rules/pseudo_masks.smk"
include: "rules/segmentation.smk"
include: "rules/sweeps.smk"
include: "rules/evaluation.smk"
include: "rules/release.smk"
include: "rules/summary.smk"
include: "rules/explorer.smk"
include: "rules/judge.smk"
include: "rules/report.smk"
include: "rules/targets.smk"


rule all:
    default_target: True
    input:
        *everything,
