import pytest
import torch
from torch import nn

from tests import backbones
from workflow_scripts.errors import InputError
from workflow_scripts.models.feature_maps import Backbone


def build(name: str = "resnet50", **values: object) -> Backbone:
    torch.manual_seed(0)
    return backbones.build(name=name, **values)


def sizes(backbone: Backbone, side: int) -> list[tuple[int, ...]]:
    with torch.no_grad():
        return [
            tuple(maps.shape[1:]) for maps in backbone.eval().pyramid(torch.zeros(1, 3, side, side))
        ]


@pytest.mark.parametrize(
    ("stride", "dilate", "strides"),
    [
        (16, False, (4, 4, 8, 16, 16)),
        (8, True, (4, 4, 8, 8, 8)),
        (32, False, (4, 4, 8, 16, 32)),
    ],
)
def test_strides_of_a_resnet(stride: int, dilate: bool, strides: tuple[int, ...]):
    backbone = build(output_stride=stride, dilate=dilate)
    assert tuple(level.stride for level in backbone.levels) == strides
    # 65 = 64 + 1: sizes are rounded up.
    expected = [
        (level.channels, -(-65 // level.stride), -(-65 // level.stride))
        for level in backbone.levels
    ]
    assert sizes(backbone, 65) == expected


def test_stage_five_of_the_paper_has_stride_one_and_no_dilation():
    blocks = build().layer4
    assert blocks[0].conv2.stride == blocks[0].downsample[0].stride == (1, 1)
    assert all(block.conv2.dilation == (1, 1) for block in blocks)


def test_deeplab_dilates_the_last_two_stages():
    backbone = build(output_stride=8, dilate=True)
    assert backbone.layer3[1].conv2.dilation == (2, 2)
    assert backbone.layer4[1].conv2.dilation == (4, 4)


def test_a_resnet_is_torchvisions():
    """At stride 32 it computes what torchvision's does, from the same weights."""
    import torchvision

    backbone = build(output_stride=32).eval()
    torch.manual_seed(1)
    theirs = torchvision.models.resnet50(weights=None).eval()
    backbone.load_state_dict(
        {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    )
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pooled = backbone(images).mean(dim=(2, 3))
        torch.testing.assert_close(theirs.fc(pooled), theirs(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dilate", [False, True])
def test_efficientnet_gives_stride_16(dilate: bool):
    backbone = build("efficientnet_lite0", dilate=dilate)
    assert tuple(level.stride for level in backbone.levels) == (2, 4, 8, 16, 16)
    assert [shape[1:] for shape in sizes(backbone, 64)] == [
        (32, 32),
        (16, 16),
        (8, 8),
        (4, 4),
        (4, 4),
    ]
    assert tuple(shape[0] for shape in sizes(backbone, 64)) == tuple(
        level.channels for level in backbone.levels
    )


def test_another_timm_model():
    assert sizes(build("resnet18", output_stride=16), 64)[-1] == (512, 4, 4)


@pytest.mark.parametrize(
    ("name", "stride", "message"),
    [
        ("resnet50", 12, "resnet50 can give 8, 16 or 32, not 12"),
        ("no_such_net", 16, "timm has no convolutional model `no_such_net`"),
        ("densenet121", 16, "backbone.name: "),
    ],
)
def test_what_cannot_be_built(name: str, stride: int, message: str):
    with pytest.raises(InputError, match=message):
        build(name, output_stride=stride)


@pytest.mark.parametrize("frozen", [0, 1, 3, 5])
@pytest.mark.parametrize("name", ["resnet50", "efficientnet_lite0"])
def test_frozen_stages_get_no_gradient_and_the_others_do(name: str, frozen: int):
    backbone = build(name, frozen_stages=frozen).train()
    maps = backbone.pyramid(torch.randn(1, 3, 32, 32))
    if frozen < 5:
        sum(features.float().square().mean() for features in maps).backward()
    with_gradient = {n for n, p in backbone.named_parameters() if p.grad is not None}
    trainable = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert with_gradient == trainable
    assert len(trainable) == 0 if frozen == 5 else trainable
    assert [features.requires_grad for features in maps] == [n > frozen for n in range(1, 6)]
    if name == "resnet50":
        stages = ["conv1", "layer1", "layer2", "layer3", "layer4"]
        for number, stage in enumerate(stages, start=1):
            assert any(n.startswith(stage) for n in trainable) is (number > frozen), stage
        assert any(n.startswith("bn1") for n in trainable) is (frozen == 0)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_lite0"])
def test_batch_normalisation_keeps_its_stored_statistics(name: str):
    backbone = build(name, frozen_stages=0).train()
    layers = [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert layers and not any(layer.training for layer in layers)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    first = backbone(torch.randn(2, 3, 32, 32) + 3)
    assert first.requires_grad
    for key, value in backbone.state_dict().items():
        assert value.equal(before[key]), key
    nn.Sequential(backbone).train()
    assert not any(layer.training for layer in layers)


TRANSFORMERS = ["vit_tiny_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"]


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("size", [(56, 70), (45, 64)])
def test_a_transformer_gives_timms_own_intermediates_for_any_size(name, size):
    import timm

    backbone = backbones.build(name=name).eval()
    patch = backbone.stride
    height, width = size
    grid = -(-height // patch), -(-width // patch)
    theirs = timm.create_model(
        name,
        pretrained=False,
        num_classes=0,
        dynamic_img_size=True,
        img_size=518 if patch == 14 else 224,
    ).eval()
    theirs.load_state_dict(backbone.network.state_dict())
    images = torch.randn(1, 3, height, width)
    padded = torch.zeros(1, 3, grid[0] * patch, grid[1] * patch)
    padded[:, :, :height, :width] = images
    with torch.no_grad():
        maps = backbone.pyramid(images)
        depth = len(theirs.blocks)
        expected = theirs.get_intermediate_layers(
            padded, [depth * n // 4 - 1 for n in (1, 2, 3, 4)], reshape=True, norm=True
        )
    assert [tuple(one.shape[-2:]) for one in maps] == [grid] * 4 == [backbone.grid(*size)] * 4
    for ours, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        ("vit_tiny_patch16_224.augreg_in21k", 16),
        ("vit_small_patch8_224.dino", 8),
        ("eva02_tiny_patch14_224", 14),
        ("vit_small_patch16_dinov3.lvd1689m", 16),
    ],
)
def test_transformers_of_all_families_give_timms_own_intermediates(name, patch):
    import timm

    backbone = backbones.build(name=name).eval()
    assert backbone.stride == patch
    theirs = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    theirs.load_state_dict(backbone.network.state_dict())
    images = torch.randn(1, 3, 3 * patch, 4 * patch)
    with torch.no_grad():
        (expected,) = theirs.forward_intermediates(
            images, indices=1, norm=True, intermediates_only=True
        )
        found, attention = backbone.attended(images, 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert attention.shape == (1, 12, 12)


def test_names_of_published_transformers_are_known():
    import timm

    kinds = [
        "vit_*_dinov3*",
        "vit_*siglip*",
        "vit_*clip*",
        "eva02_*",
        "deit3_*",
        "vit_*.mae",
        "eva_*",
    ]
    names = [name for kind in kinds for name in timm.list_models(kind, pretrained=True)]
    entries = {backbones.settings(name=name).__class__.__name__ for name in names}
    assert len(names) > 50 and entries == {"TimmTransformer"}


def test_original_names_of_dinov2_with_registers_are_known(tmp_path):
    """There, the class token's embedding of place is the first of all, here it is part of the token."""
    from safetensors.torch import save_file

    from workflow_scripts.models.feature_maps import load_backbone

    name = "vit_small_patch14_reg4_dinov2"
    expected = build(name).network.state_dict()
    first = torch.randn(1, 1, 384)
    original = {
        **{k: v for k, v in expected.items() if k != "reg_token"},
        "register_tokens": expected["reg_token"],
        "cls_token": expected["cls_token"] - first,
        "pos_embed": torch.cat([first, expected["pos_embed"]], dim=1),
        "mask_token": torch.zeros(1, 384),
    }
    save_file(original, tmp_path / "original.safetensors")
    file = str(tmp_path / "original.safetensors")
    found = load_backbone(backbones.settings(name=name, weights=file)).network.state_dict()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, msg=key)


@pytest.mark.parametrize(
    ("name", "options"),
    [("convnext_atto", {}), ("swin_tiny_patch4_window7_224", {"strict_img_size": False})],
)
def test_a_pyramid_gives_timms_own_maps_for_any_size(name, options, tmp_path):
    import timm
    from safetensors.torch import save_file

    from workflow_scripts.models.feature_maps import load_backbone

    torch.manual_seed(0)
    theirs = timm.create_model(name, pretrained=False, **options).eval()
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    backbone = load_backbone(
        backbones.settings(name=name, weights=str(tmp_path / "weights.safetensors"))
    ).eval()
    assert [level.stride for level in backbone.levels] == [4, 8, 16, 32]
    images = torch.randn(1, 3, 45, 70)
    padded = torch.nn.functional.pad(images, (0, 96 - 70, 0, 64 - 45))
    with torch.no_grad():
        found = backbone.pyramid(images)
        expected = theirs.forward_intermediates(padded, intermediates_only=True, output_fmt="NCHW")
    for ours, other, level in zip(found, expected[-4:], backbone.levels, strict=True):
        assert ours.shape[-2:] == (-(-45 // level.stride), -(-70 // level.stride))
        torch.testing.assert_close(
            ours, other[..., : ours.shape[-2], : ours.shape[-1]], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("frozen", [1, 4])
def test_frozen_stages_of_a_pyramid_do_not_train(frozen):
    backbone = build("convnext_atto", frozen_stages=frozen)
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
    first = ("network.stem", "network.stages_0.")
    assert not any(name.startswith(first) for name in trained)
    assert bool(trained) is (frozen < 4)


@pytest.mark.parametrize("name", ["resnetv2_50", "repvgg_a0"])
def test_networks_whose_stages_timm_renames_can_be_frozen_and_loaded(name, tmp_path):
    import timm
    from safetensors.torch import save_file

    from workflow_scripts.models.feature_maps import load_backbone

    tensors = timm.create_model(name, pretrained=False, num_classes=0).state_dict()
    # What stands behind the last feature map is no part of a backbone.
    kept = {
        key: tensor
        for key, tensor in tensors.items()
        if not key.startswith(("norm.", "final_conv."))
    }
    save_file(kept, tmp_path / "weights.safetensors")
    settings = backbones.settings(
        name=name, frozen_stages=2, weights=str(tmp_path / "weights.safetensors")
    )
    backbone = load_backbone(settings)
    frozen = {key for key, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen and any(p.requires_grad for p in backbone.parameters())
    assert any("stages_0" in key for key in frozen) and not any("stages_3" in key for key in frozen)


def test_frozen_blocks_of_a_transformer_do_not_train():
    backbone = backbones.build(name="vit_tiny_patch16_224", frozen_blocks=11).train()
    backbone(torch.randn(1, 3, 32, 48)).square().mean().backward()
    trained = {name for name, p in backbone.named_parameters() if p.grad is not None}
    assert trained and all(
        name.startswith(("network.blocks.11.", "network.norm.")) for name in trained
    )
    with pytest.raises(InputError, match="vit_tiny_patch16_224 has 12 blocks, not 13"):
        backbones.build(name="vit_tiny_patch16_224", frozen_blocks=13)
    frozen = backbones.build(name="vit_tiny_patch16_224", frozen_blocks="all")
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224", "vit_base_patch16_siglip_224"]
)
def test_everything_of_a_transformer_that_may_learn_does(name):
    """Processes that share a batch wait for the gradient of each tensor that may."""
    backbone = backbones.build(name=name).train()
    sum(one.square().mean() for one in backbone.pyramid(torch.randn(1, 3, 28, 32))).backward()
    idle = [key for key, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    assert all(p.grad is not None for p in backbone.weighted.blocks.parameters())


def test_a_file_of_a_distilled_transformer_fits(tmp_path):
    import timm
    from safetensors.torch import save_file

    from workflow_scripts.models.feature_maps import load_backbone

    name = "deit_tiny_distilled_patch16_224"
    tensors = timm.create_model(name, pretrained=False).state_dict()
    assert "head_dist.weight" in tensors
    save_file(tensors, tmp_path / "weights.safetensors")
    backbone = load_backbone(
        backbones.settings(name=name, weights=str(tmp_path / "weights.safetensors"))
    )
    assert backbone(torch.zeros(1, 3, 32, 48)).shape == (1, 192, 2, 3)


def test_weights_of_a_transformer_fit_another_size_of_image(tmp_path):
    """Positional embeddings learnt at 384 pixels become those of a network of 224."""
    import timm
    from safetensors.torch import save_file

    from workflow_scripts.models.feature_maps import load_backbone

    torch.manual_seed(0)
    file = tmp_path / "vit.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_384", pretrained=False).state_dict(), file)
    backbone = load_backbone(backbones.settings(name="vit_tiny_patch16_224", weights=str(file)))
    assert backbone.network.pos_embed.shape[1] == 1 + 14 * 14
