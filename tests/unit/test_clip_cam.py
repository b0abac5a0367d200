"""clip_cam against open_clip's own model: the same random weights, tiny."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer, _create_vision_transformer

from workflow_scripts import infer, train
from workflow_scripts.datasets.index import IndexRow, write_index
from workflow_scripts.doors.method import LabelledImage
from workflow_scripts.errors import InputError
from workflow_scripts.methods.clip_cam import ClipCam, embedded
from workflow_scripts.models.feature_maps import load_backbone
from workflow_scripts.models.trained import load_trained
from workflow_scripts.planning.workflow import Workflow
from workflow_scripts.settings.base import validate
from workflow_scripts.storage.activations import ActivationReader

CPU = torch.device("cpu")
NAME, WIDTH, DIMENSION, SIDE = "tiny_test_clip", 32, 16, 32
CLASSES = ("cat", "dog", "tractor")
BACKGROUNDS = ("sky", "grass")


@register_model
def vit_tiny_test_clip(pretrained: bool = False, **options: object) -> VisionTransformer:
    """The tower that `NAME` has."""
    sizes = {
        "img_size": SIDE,
        "patch_size": 8,
        "embed_dim": WIDTH,
        "depth": 2,
        "num_heads": 2,
        "pre_norm": True,
    }
    return _create_vision_transformer(
        "vit_tiny_test_clip", norm_layer=partial(torch.nn.LayerNorm, eps=1e-5), **sizes | options
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """open_clip's model, and a file of its weights."""
    folder = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": DIMENSION,
        "vision_cfg": {
            "image_size": SIDE,
            "layers": 2,
            "width": WIDTH,
            "head_width": 16,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
        },
    }
    (folder / f"{NAME}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{NAME}.json")
    torch.manual_seed(0)
    model = open_clip.create_model(NAME, pretrained=None).eval()
    save_file(model.state_dict(), folder / "clip.safetensors")
    return model, folder / "clip.safetensors"


def method_of(file: Path, **more: object) -> ClipCam:
    assert "vit_tiny_test_clip" in timm.list_models("vit_tiny_test*")
    values = {
        "backbone": {"name": "vit_tiny_test_clip", "weights": str(file)},
        "text_model": NAME,
        "embedding": DIMENSION,
        "background_names": BACKGROUNDS,
    }
    return ClipCam(validate(ClipCam.Train, values | more, "test"))


def network_of(file: Path, **more: object):
    method = method_of(file, **more)
    network = method.build(load_backbone(method.settings.backbone), len(CLASSES))
    method.prepare(network, CLASSES)
    return method, network.eval()


def test_texts_are_open_clips(clip):
    model, file = clip
    _, network = network_of(file, prompts=("a {}.", "the {}"), class_names=("a", "b", "big c"))
    tokenise = open_clip.get_tokenizer(NAME)
    with torch.no_grad():
        both = [
            F.normalize(model.encode_text(tokenise(t)), dim=-1)[0]
            for t in ("a big c.", "the big c")
        ]
        expected = F.normalize((both[0] + both[1]) / 2, dim=0)
    assert network.text.shape == (5, DIMENSION)
    torch.testing.assert_close(network.text[2], expected)


@pytest.mark.parametrize(
    ("prompt", "text"), [("a {} of {x}", "a cat of {x}"), ("{} and {}", "cat and cat")]
)
def test_braces_of_prompts(clip, prompt, text):
    tokenise = open_clip.get_tokenizer(NAME)
    found = embedded(["cat"], [prompt], clip[0], tokenise)
    torch.testing.assert_close(found, embedded([text], ["{}"], clip[0], tokenise))


def test_gradient_maps_are_those_of_open_clips_own_tower(clip):
    model, file = clip
    _, network = network_of(file)
    torch.manual_seed(1)
    views = torch.randn(2, 3, SIDE, SIDE)
    texts = network.text[[2, 0, 3, 4]]
    with torch.inference_mode():
        found = network.gradient_maps(views.clone(), texts, 2)

    kept = []

    def keep(_module, _given, output):
        output.retain_grad()
        kept.append(output)

    handle = model.visual.transformer.resblocks[-1].ln_1.register_forward_hook(keep)
    for image in range(2):
        for label in range(2):
            kept.clear()
            embedding = model.encode_image(views[image : image + 1], normalize=True)
            (100 * embedding @ texts.T).softmax(dim=-1)[0, label].backward()
            tokens, gradient = kept[0].detach(), kept[0].grad
            weights = gradient[0, 1:].mean(dim=0)
            expected = F.relu(tokens[0, 1:] @ weights).reshape(4, 4)
            torch.testing.assert_close(found[image, label], expected, rtol=1e-3, atol=1e-7)
    handle.remove()
    assert found.max() > 0


def test_similarity_maps_are_the_values_of_the_last_block(clip):
    model, file = clip
    _, network = network_of(file)
    views = torch.randn(1, 3, SIDE, SIDE)
    texts = network.text[[1, 3, 4]]
    seen = []
    last = model.visual.transformer.resblocks[-1]
    handle = last.ln_1.register_forward_hook(lambda _module, _given, output: seen.append(output))
    with torch.no_grad():
        found = network.similarity_maps(views, texts, 1)
        model.encode_image(views)
        weight, bias = last.attn.in_proj_weight[2 * WIDTH :], last.attn.in_proj_bias[2 * WIDTH :]
        patches = last.attn.out_proj(F.linear(seen[0][:, 1:], weight, bias))
        embedded = F.normalize(model.visual.ln_post(patches) @ model.visual.proj, dim=-1)
        expected = (100 * embedded @ texts.T).softmax(dim=-1)[..., 0].reshape(1, 1, 4, 4)
    handle.remove()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_probabilities_are_float32_whatever_surrounds(clip):
    _, network = network_of(clip[1])
    tokens = torch.randn(2, 5, WIDTH)
    expected = network.probabilities(tokens, network.text)
    with torch.autocast("cpu", torch.bfloat16):
        found = network.probabilities(tokens, network.text)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("maps", ["gradient", "similarity"])
def test_an_image_of_any_size_and_one_without_labels(clip, maps):
    method, network = network_of(clip[1])
    pixels = np.random.default_rng(0).integers(0, 255, (45, 37, 3), np.uint8)
    for labels in ((1, 3), ()):
        for source, half in (("attention", False), ("features", True), ("none", True)):
            values = {"maps": maps, "affinity": {"source": source, "blocks": 2}}
            settings = validate(ClipCam.Infer, values, "test")
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                found = method.activations(network, LabelledImage(pixels, labels, 3), settings, CPU)
            assert found.maps[0].shape == (len(labels), 6, 5)
            assert np.isfinite(found.activation()).all()


@pytest.mark.parametrize("source", ["attention", "features", "none"])
@pytest.mark.parametrize("maps", ["gradient", "similarity"])
def test_images_together_have_the_maps_that_each_has_alone(clip, maps, source):
    method, network = network_of(clip[1])
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, 32, 3), np.uint8)
    shown = ((2,), (1, 2, 3), ())
    images = [LabelledImage(one, labels, 3) for one, labels in zip(pixels, shown, strict=True)]
    values = {"maps": maps, "affinity": {"source": source, "blocks": 2}}
    settings = validate(ClipCam.Infer, values, "test")
    together = method.activations_together(network, images, settings, CPU)
    for image, found in zip(images, together, strict=True):
        expected = method.activations(network, image, settings, CPU)
        assert found.maps[0].shape == (len(image.labels), 5, 4)
        scale = expected.maps[0].max(initial=1e-8)
        ours, alone = found.maps[0] / scale, expected.maps[0] / scale
        np.testing.assert_allclose(ours, alone, rtol=1e-4, atol=1e-5)


def test_its_training_writes_texts_and_tower_and_its_activations_need_no_open_clip(
    clip, tmp_path, monkeypatch
):
    rows = []
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8)).save(
            tmp_path / f"{number}.png"
        )
        rows.append(IndexRow(f"{number}", f"{number}.png", 48, 40, "train", [CLASSES[number]], ""))
    write_index(tmp_path / "index.csv", list(CLASSES), rows)
    index = [
        "--index",
        str(tmp_path / "index.csv"),
        "--device",
        "cpu",
        "--log",
        str(tmp_path / "log"),
    ]
    model = tmp_path / "model.safetensors"
    assert train.main([
        "clip_cam", *index, "--output", str(model), "--backbone-name", "vit_tiny_test_clip",
        "--backbone-weights", str(clip[1]), "--text-model", NAME, "--embedding", str(DIMENSION),
        "--background-names", *BACKGROUNDS,
    ]) == 0  # fmt: skip
    assert (tmp_path / "training.csv").read_text().splitlines()[1:] == []
    assert "untrained" in (tmp_path / "log").read_text()
    monkeypatch.setitem(sys.modules, "open_clip", None)
    assert infer.main([
        "clip_cam", *index, "--split", "train", "--model", str(model), "--affinity-blocks", "2",
        "--output", str(tmp_path / "activations.safetensors"),
    ]) == 0  # fmt: skip
    with ActivationReader(tmp_path / "activations.safetensors") as reader:
        assert reader.read_full("1", 40, 48).shape == (1, 40, 48)
    _, network, description = load_trained(model, "clip_cam", CLASSES, CPU)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert description["background_names"] == list(BACKGROUNDS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"class_names": ("cat",)},
            "1 names for 3 classes; give one for each, in this order: cat, dog",
        ),
        ({"prompts": ("a photograph",)}, "`a photograph` has no {} for the name"),
        ({"text_model": "no_such"}, "open_clip has no `no_such`"),
        ({"embedding": 8}, "embeds texts in 16 numbers"),
    ],
)
def test_texts_that_cannot_be_are_refused(clip, values, message):
    with pytest.raises(InputError, match=message):
        network_of(clip[1], **values)


def test_without_open_clip_it_says_how_to_get_it(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(InputError, match="pip install open_clip_torch"):
        network_of(clip[1])


def test_a_tower_without_class_token_is_refused():
    method = ClipCam(validate(ClipCam.Train, {"backbone": {"name": "resnet18"}}, "test"))
    with pytest.raises(InputError, match="the image tower of a CLIP"):
        method.build(method.settings.backbone.build(), 2)


def test_the_report_waits_for_no_training_of_it():
    plan = Workflow({"dataset": {"kind": "demo"}, "methods": ["clip_cam", "cam"]})
    histories = plan.report_files.histories
    assert "results/demo/0/cam/training.csv" in histories
    assert "results/demo/0/clip_cam/training.csv" not in histories
