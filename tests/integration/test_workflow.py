"""The whole workflow on a tiny demo."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from workflow_scripts.datasets.index import read_index
from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.storage.masks import MaskReader


def _summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def _chosen(run: Path, method: str, place: str = "thresholds") -> dict:
    return json.loads((run / f"0/{method}/auto/{place}.json").read_text())


def test_summary_has_every_section(tiny_run):
    run = tiny_run.folder / "results/tiny"
    summary = _summary(run)
    assert summary["images"] == {"train": 12, "val": 6}
    assert summary["trials"] == 1
    for method in ("cam", "amn"):
        figures = summary["methods"][method]
        for split in ("train", "val"):
            sweep = figures["activations"][split]
            assert 0 <= sweep["mean_miou"]["mean"] <= sweep["best_miou"]["mean"] <= 100
            assert 0 < sweep["best_threshold"]["mean"] < 1
            assert sweep["image_miou_oracle"]["mean"] >= sweep["image_miou_global"]["mean"]
            assert "refined_best_miou" in sweep
            seeds = figures["seeds"][split]
            shares = [seeds[kind]["mean"] for kind in ("background", "foreground", "ignored")]
            assert sum(shares) == pytest.approx(1, abs=1e-6)
            masks = figures["pseudo_masks"][split]
            assert masks["threshold"]["mean"] == pytest.approx(_chosen(run, method)["pseudo_mask"])
            assert sweep["regret"]["mean"] >= 0
        assert figures["by_threshold"].keys() == {"auto"}
        assert figures["segmentation"]["val"]["miou"]["std"] is None
        assert set(figures["segmentation"]["val"]["per_class"]) >= set(summary["classes"])
    assert {"train cam", "train amn", "infer amn", "train_segmentation"} <= set(summary["seconds"])


def test_chosen_thresholds_are_shown(tiny_run):
    """The sweep's figure and the explorer mark them."""
    run = tiny_run.folder / "results/tiny"
    assert "auto threshold" in (run / "figures/sweep_curves.svg").read_text(encoding="utf-8")
    page = (run / "explorer.html").read_text(encoding="utf-8")
    for method, name in (("cam", "CAM auto"), ("amn", "AMN auto")):
        chosen, seeds = _chosen(run, method), _chosen(run, method, "seed_thresholds")
        assert chosen["candidates"][chosen["rule"]] == chosen["pseudo_mask"]
        assert name in page
        middle = seeds["candidates"]["contrast"]
        assert seeds["seed_background"] < middle < seeds["seed_foreground"]


def test_nothing_is_left_over(tiny_run):
    hidden = [
        path
        for path in (tiny_run.folder / "results").rglob(".*")
        if path.name != ".snakemake_timestamp"
    ]
    assert hidden == []


def test_training_never_sees_a_mask(tiny_run, tmp_path):
    """Without any mask file the training half runs and gives the same thresholds and weights."""
    original = tiny_run.folder / "results/tiny"
    blind = tmp_path / "blind" / "tiny"
    shutil.copytree(original / "dataset", blind / "dataset")
    shutil.rmtree(blind / "dataset" / "masks")
    tiny_run.configure(results=str(tmp_path / "blind"))
    try:
        tiny_run.snakemake("train_all")
    finally:
        tiny_run.configure()
    for method in ("cam", "amn"):
        for place in ("thresholds", "seed_thresholds"):
            # Those of AMN's seeds feed nothing that is trained here.
            if (method, place) != ("amn", "seed_thresholds"):
                assert _chosen(blind, method, place) == _chosen(original, method, place)
    models = sorted(path.relative_to(blind) for path in blind.rglob("model.safetensors"))
    assert len(models) == 4
    for model in models:
        expected, found = load_file(original / model), load_file(blind / model)
        assert expected.keys() == found.keys()
        assert all((expected[name] == found[name]).all() for name in expected), model


def test_second_run_in_shards_gives_the_same(tiny_run, tmp_path):
    """Another run from the same seed, cut in three: same figures, same bytes image for image."""
    original = tiny_run.folder / "results/tiny"
    again = tmp_path / "again" / "tiny"
    tiny_run.configure(results=str(tmp_path / "again"), shards=3)
    try:
        tiny_run.snakemake("all")
    finally:
        tiny_run.configure()
    expected, found = _summary(original), _summary(again)
    assert {**found, "seconds": None} == {**expected, "seconds": None}
    records = {r.id: r for r in read_index(original / "dataset/index.csv").records}
    for method in ("cam", "amn"):
        whole = ActivationReader(original / f"0/{method}/activations/train-00.safetensors")
        seen = 0
        for shard in sorted((again / f"0/{method}/activations").glob("train-*.safetensors")):
            part = ActivationReader(shard)
            for image in part.ids:
                size = records[image].height, records[image].width
                found, expected = (shards.read_full(image, *size) for shards in (part, whole))
                assert found.tobytes() == expected.tobytes()
                seen += 1
        assert seen == len(whole.ids)
        for kind in ("seeds", "auto/pseudo_masks"):
            masks = MaskReader(original / f"0/{method}/{kind}/val-00.zip")
            for shard in (again / f"0/{method}/{kind}").glob("val-*.zip"):
                for image in MaskReader(shard).ids:
                    assert (MaskReader(shard).read(image) == masks.read(image)).all()
