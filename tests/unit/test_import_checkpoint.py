import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests import backbones
from tests.published_networks import PUBLISHED, PublishedCam
from tests.random_walk_oracle import dense_propagation
from tests.tiny_models import CLASSES, save_run
from workflow_scripts.datasets.index import write_index
from workflow_scripts.errors import InputError
from workflow_scripts.import_checkpoint import convert, main
from workflow_scripts.models.boundary import infer_boundaries
from workflow_scripts.models.per_pixel import AmnNetwork
from workflow_scripts.refinement.random_walk import propagate
from workflow_scripts.storage.networks import load_network, read_description


@pytest.fixture(scope="module")
def published():
    return {kind: make().eval() for kind, make in PUBLISHED.items()}


def network_of(kind, tensors):
    network, _ = convert(kind, tensors, "in.pth", None)
    return network.eval()


@torch.no_grad()
def test_cam_gives_the_same_maps(published):
    ours = network_of("cam", published["cam"].state_dict())
    image = torch.randn(1, 3, 64, 48)
    maps = ours.activations(torch.cat([image, image.flip(-1)]))
    expected = published["cam"](image)
    assert expected.max() > 0.01
    torch.testing.assert_close(maps[0] + maps[1].flip(-1), expected, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_amn_gives_the_same_logits(published):
    ours = network_of("amn", published["amn"].state_dict())
    image, labels = torch.randn(1, 3, 64, 48), torch.zeros(1, 20)
    labels[0, [3, 7]] = 1
    logits = ours(torch.cat([image, image.flip(-1)]), labels)
    expected = published["amn"](image, labels)
    torch.testing.assert_close((logits[0] + logits[1].flip(-1)) / 2, expected, rtol=1e-3, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [(48, 40), (46, 37)])
def test_irn_gives_the_same_edges_and_scores(published, size):
    ours = network_of("irn", published["irn"].state_dict())
    image = torch.randn(1, 3, *size)
    edge = infer_boundaries(ours, image, least_side=64)
    expected_edge, _ = published["irn"](image, 64)
    assert expected_edge.std() > 0.01
    torch.testing.assert_close(edge[0], expected_edge, rtol=0, atol=1e-4)
    activations = torch.rand(2, *edge.shape[1:])
    scores = propagate(activations**1.3, edge[0]).numpy()
    expected = dense_propagation(activations.numpy() ** 1.3, expected_edge.double().numpy())
    assert np.abs(scores / scores.max() - expected / expected.max()).max() < 1e-3


def refusal(kind, tensors) -> str:
    with pytest.raises(InputError) as caught:
        convert(kind, tensors, "in.pth", None)
    return str(caught.value)


@pytest.mark.parametrize("kind", PUBLISHED)
@pytest.mark.parametrize("asked", PUBLISHED)
def test_another_kind_is_named(published, kind, asked):
    if kind != asked:
        message = refusal(asked, published[kind].state_dict())
        assert f"--kind {kind}" in message
        assert "in.pth" in message


@pytest.mark.parametrize(
    ("kind", "lost", "named"),
    [
        ("cam", ".layer3.2.conv1.weight stage3.0.2.conv1.weight backbone.2.0.2.conv1.weight",
         "resnet50.layer3.2.conv1.weight"),
        ("amn", "classifier.1.c2.bias newly_added.0.1.c2.bias", "classifier.1.c2.bias"),
        ("irn", "fc_edge3.1.weight edge_layers.2.1.weight", "fc_edge3.1.weight"),
        ("cam", "classifier.weight newly_added.0.weight", "classifier.weight"),
    ],
)  # fmt: skip
def test_missing_tensors_are_named(published, kind, lost, named):
    endings = tuple(lost.split())
    tensors = published[kind].state_dict()
    kept = {name: t for name, t in tensors.items() if not name.endswith(endings)}
    assert len(kept) < len(tensors)
    message = refusal(kind, kept)
    assert named in message and "missing" in message


def test_extra_tensors_are_named(published):
    tensors = published["cam"].state_dict()
    message = refusal("cam", {**tensors, "decoder.weight": torch.zeros(1)})
    assert "decoder.weight" in message
    message = refusal("cam", {**tensors, "resnet50.layer5.weight": torch.zeros(1)})
    assert "resnet50.layer5.weight" in message and "not part" in message


def test_copies_must_agree(published):
    tensors = dict(published["amn"].state_dict())
    tensors["stage2.0.1.bn2.bias"] = tensors["stage2.0.1.bn2.bias"] + 1e-3
    message = refusal("amn", tensors)
    assert "stage2.0.1.bn2.bias" in message and "resnet50.layer2.1.bn2.bias" in message


def test_wrong_shapes_are_named(published):
    tensors = dict(published["irn"].state_dict())
    tensors["fc_edge3.0.weight"] = tensors["edge_layers.2.0.weight"] = torch.zeros(32, 128, 1, 1)
    message = refusal("irn", tensors)
    assert "fc_edge3.0.weight (32, 128, 1, 1) instead of (32, 512, 1, 1)" in message


def test_checkpoints_of_old_pytorch_have_no_counters(published):
    tensors = published["irn"].state_dict()
    network_of("irn", {n: t for n, t in tensors.items() if "num_batches" not in n})


def run(kind, file, output, *more):
    arguments = ["--kind", kind, file, "--output", output, *more]
    return main(list(map(str, arguments)))


def test_the_result_lies_beside_the_checkpoint_unless_told_otherwise(tmp_path, published):
    torch.save(published["cam"].state_dict(), tmp_path / "res50 cam.pth")
    assert main(["--kind", "cam", str(tmp_path / "res50 cam.pth")]) == 0
    assert read_description(tmp_path / "res50 cam.safetensors", "cam")["kind"] == "cam"


def test_no_code_in_a_file_is_executed(tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("executed",))

    torch.save({"classifier.weight": Trap()}, tmp_path / "trap.pth")
    assert run("cam", tmp_path / "trap.pth", tmp_path / "out.safetensors") == 2
    assert "trap.pth" in capsys.readouterr().err


def test_files_become_files(tmp_path, published):
    tensors = published["amn"].state_dict()
    torch.save({f"module.{name}": t for name, t in tensors.items()}, tmp_path / "my amn.pth")
    assert run("amn", tmp_path / "my amn.pth", tmp_path / "model.safetensors") == 0
    description = read_description(tmp_path / "model.safetensors", "amn")
    assert description["classes"][14] == "person"
    assert description["imported_from"] == str(tmp_path / "my amn.pth")
    settings = backbones.settings(**description["backbone"])
    network = AmnNetwork(settings.build(), 20, description["dilations"], 0.1, True)
    load_network(tmp_path / "model.safetensors", network)
    assert torch.equal(network.classifier.branches[2].bias, tensors["classifier.1.c2.bias"])


def test_command_line_names_classes_by_the_index(tmp_path, capsys):
    file, model, index = (tmp_path / n for n in ("three.pth", "model.safetensors", "index.csv"))
    torch.save(PublishedCam(3).state_dict(), file)
    write_index(index, ["cat", "dog", "cow"], [])
    assert run("cam", file, model, "--index", index) == 0
    assert read_description(model, "cam")["classes"] == ["cat", "dog", "cow"]
    assert run("cam", file, model) == 0
    assert read_description(model, "cam")["classes"] == ["1", "2", "3"]
    write_index(index, ["cat", "dog"], [])
    assert run("cam", file, model, "--index", index, "--key", "checkpoints.cam") == 2
    assert f"checkpoints.cam: {file}: distinguishes 3 classes, {index} has 2" in (
        capsys.readouterr().err
    )
    assert run("cam", tmp_path / "absent.pth", model) == 2
    assert "absent.pth" in capsys.readouterr().err
    assert run("cam", file, file) == 2
    assert "would overwrite" in capsys.readouterr().err


@pytest.fixture
def ours(tmp_path):
    """A classifier as a run leaves it, and an index of the same classes."""
    folder = save_run(tmp_path / "earlier run")
    write_index(tmp_path / "index.csv", CLASSES, [])
    return folder / "0/cam/model.safetensors", tmp_path / "index.csv"


def test_networks_of_earlier_runs_are_copied(tmp_path, ours):
    """Tensors and description stay; it says where the copy is from, which a copy of the copy keeps."""
    file, index = ours
    copies = [tmp_path / name for name in ("copy.safetensors", "again.safetensors")]
    assert run("cam", file, copies[0], "--index", index) == 0
    assert run("cam", copies[0], copies[1], "--index", index) == 0
    expected = load_file(file)
    for copy in copies:
        found = load_file(copy)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        said = {**read_description(file, "cam"), "imported_from": str(file)}
        assert read_description(copy, "cam") == said


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cat", "bird", "dog"], "dog instead of bird"),
        (["cat", "dog"], "3 instead of 2"),
    ],
)
def test_networks_of_other_classes_are_refused(tmp_path, ours, capsys, classes, message):
    file, index = ours
    write_index(index, classes, [])
    assert run("cam", file, tmp_path / "out", "--index", index, "--key", "checkpoints.cam") == 2
    said = capsys.readouterr().err
    assert f"checkpoints.cam: {file}: was trained on other classes" in said
    assert message in said
    assert not (tmp_path / "out").exists()


def test_networks_of_another_kind_and_damaged_ones_are_refused(tmp_path, ours, capsys):
    file, index = ours
    assert run("amn", file, tmp_path / "out", "--index", index) == 2
    assert "kind cam, expected amn" in capsys.readouterr().err
    (tmp_path / "half.safetensors").write_bytes(file.read_bytes()[:-1000])
    assert run("cam", tmp_path / "half.safetensors", tmp_path / "out") == 2
    assert "damaged safetensors file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_classes_that_nobody_named_get_the_names_of_the_index(tmp_path, ours):
    torch.save(PublishedCam(3).state_dict(), tmp_path / "three.pth")
    assert run("cam", tmp_path / "three.pth", tmp_path / "numbered.safetensors") == 0
    copy = tmp_path / "named.safetensors"
    assert run("cam", tmp_path / "numbered.safetensors", copy, "--index", ours[1]) == 0
    assert read_description(copy, "cam")["classes"] == list(CLASSES)
