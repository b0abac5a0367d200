"""Text-driven activations of a CLIP that is not trained at all.

After CLIP-ES (Lin et al., "CLIP is also an efficient segmenter", CVPR 2023). Class names and names of what
backgrounds show become text embeddings; `train` computes them, once, and keeps them with the image tower. Of
an image, the embeddings of its labels and of all backgrounds compete in a softmax:

- `gradient` (CLIP-ES, its softmax-GradCAM): the label's probability is derived by the first normalisation of
  the last block, whose output, weighted by the mean gradient over the patches, is the map.
- `similarity` (MaskCLIP, Zhou et al., ECCV 2022): each patch is embedded by the last block's values alone;
  the map is the label's probability, patch by patch.

Maps are spread over the attention, as those of `vit_cam`. The image tower is timm's; texts need open_clip,
in training alone. The names can say anything, so that own photographs need no training.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from workflow_scripts.backbones.timm_transformer import TimmTransformer
from workflow_scripts.doors.backbone import BackboneSettings
from workflow_scripts.doors.method import InferSettings, LabelledImage, Method, TrainSettings
from workflow_scripts.errors import InputError
from workflow_scripts.methods.vit_cam import label_rows, spread_maps
from workflow_scripts.models.attention_affinity import (
    AttentionRecorder,
    affinity,
    feature_likeness,
    spread,
)
from workflow_scripts.models.feature_maps import Backbone
from workflow_scripts.models.weights import fetched, load_exactly, read_weights
from workflow_scripts.settings.affinity import AffinitySettings
from workflow_scripts.settings.refinement import SeedSettings
from workflow_scripts.settings.training import Scale
from workflow_scripts.storage.activation_maps import CamMaps

# CLIP-ES's, for VOC 2012.
BACKGROUNDS = (
    "ground", "land", "grass", "tree", "building", "wall", "sky", "lake", "water", "river", "sea", "railway",
    "railroad", "keyboard", "helmet", "cloud", "house", "mountain", "ocean", "road", "rock", "street",
    "valley", "bridge", "sign",
)  # fmt: skip
# What cosines are multiplied by, as CLIP has learnt it.
SHARPNESS = 100.0


class TrainClipCamSettings(TrainSettings):
    """What the texts say, and which CLIP embeds them; nothing is trained, `training` is not read."""

    backbone: BackboneSettings = TimmTransformer(
        name="vit_base_patch16_clip_quickgelu_224.openai", frozen_blocks="all"
    )
    text_model: str = Field(
        "ViT-B-16-quickgelu",
        description="open_clip's name of the CLIP whose image tower `backbone` is",
    )
    text_weights: str = Field(
        "openai",
        description="where `backbone.weights` is no file: open_clip's name of the published weights",
    )
    embedding: int = Field(
        512, ge=1, description="numbers of an embedding (ViT-B: 512, ViT-L: 768)"
    )
    class_names: tuple[str, ...] = Field(
        (), description="what texts call the classes, in their order; left out: as the dataset does"
    )
    background_names: tuple[str, ...] = Field(
        BACKGROUNDS, description="what else images show: the classes' competitors"
    )
    prompts: tuple[str, ...] = Field(
        ("a clean origami {}.",),
        min_length=1,
        description="texts with {} in the place of a name; their embeddings are averaged",
    )


class InferClipCamSettings(InferSettings):
    """Kind and scales of the maps, and what they are spread over."""

    scales: tuple[Scale, ...] = Field(
        (1.0,), min_length=1, description="image scales, each with its mirror image"
    )
    maps: Literal["gradient", "similarity"] = Field(
        "gradient", description="how patches are compared with texts"
    )
    affinity: AffinitySettings = AffinitySettings()


class ClipNetwork(nn.Module):
    """The image tower of a CLIP, its projection, and embeddings of classes and backgrounds."""

    text: Tensor
    projection: Tensor

    def __init__(self, backbone: Backbone, texts: int, dimension: int) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        tower = backbone.weighted
        if getattr(tower, "cls_token", None) is None or not hasattr(tower, "blocks"):
            raise InputError(
                "train_clip_cam.backbone: expected the image tower of a CLIP, a transformer with a class "
                "token, such as vit_base_patch16_clip_quickgelu_224"
            )
        self.register_buffer("text", torch.zeros(texts, dimension))
        self.register_buffer("projection", torch.zeros(dimension, backbone.channels))

    def probabilities(self, tokens: Tensor, texts: Tensor, absent: Tensor | None = None) -> Tensor:
        """How normalised tokens are shared among the texts.

        Args:
            tokens: [B, n, D].
            texts: [T, D'], or those of each image, [B, T, D'].
            absent: Texts that do not compete, bool [B, 1, T].

        Returns:
            float32 [B, n, T].
        """
        with torch.autocast(tokens.device.type, enabled=False):
            embedded = F.normalize(tokens.float() @ self.projection.T, dim=-1)
            cosines = SHARPNESS * embedded @ texts.mT
            if absent is not None:
                cosines = cosines.masked_fill(absent, -torch.inf)
            return cosines.softmax(dim=-1)

    def gradient_maps(
        self, views: Tensor, texts: Tensor, labels: int, absent: Tensor | None = None
    ) -> Tensor:
        """CLIP-ES's maps of the first texts: [B, 3, H, W] → [B, labels, h, w], ≥ 0.

        An image's probabilities depend on it alone, so that the gradient of their sum is each one's own.
        """
        tower: Any = self.backbone.weighted
        leaves: list[Tensor] = []

        def cut(_module: nn.Module, _given: Any, output: Tensor) -> Tensor:
            # No gradient is needed further down, and the tower's own do not ask for one.
            leaves.append(output.detach().requires_grad_())
            return leaves[0]

        rows, columns = self.backbone.grid(*views.shape[-2:])
        handle = tower.blocks[-1].norm1.register_forward_hook(cut)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                tokens = tower.forward_features(views.clone())
                others = None if absent is None else absent.clone()
                shares = self.probabilities(tokens[:, :1], texts.clone(), others)
                scores = shares.sum(dim=(0, 1))
                maps = [self._map(score, leaves[0], rows * columns) for score in scores[:labels]]
        finally:
            handle.remove()
        cells = torch.stack(maps, dim=1) if maps else views.new_zeros(len(views), 0, rows * columns)
        return cells.unflatten(2, (rows, columns))

    @staticmethod
    def _map(score: Tensor, leaf: Tensor, cells: int) -> Tensor:
        """GradCAM of a score: [B, cells]."""
        (gradient,) = torch.autograd.grad(score, leaf, retain_graph=True)
        weights = gradient[:, -cells:].mean(dim=1, keepdim=True)
        return F.relu((weights * leaf.detach()[:, -cells:]).sum(dim=2)).float()

    def similarity_maps(
        self, views: Tensor, texts: Tensor, labels: int, absent: Tensor | None = None
    ) -> Tensor:
        """MaskCLIP's maps of the first texts: [B, 3, H, W] → [B, labels, h, w] in 0…1."""
        tower: Any = self.backbone.weighted
        seen: list[Tensor] = []
        last = tower.blocks[-1]
        handle = last.norm1.register_forward_hook(
            lambda _module, _given, output: seen.append(output)
        )
        try:
            tower.forward_features(views)
        finally:
            handle.remove()
        rows, columns = self.backbone.grid(*views.shape[-2:])
        values = last.attn.qkv(seen[0][:, -rows * columns :]).chunk(3, dim=-1)[2]
        patches = tower.norm(last.attn.proj(values))
        found = self.probabilities(patches, texts, absent)[..., :labels]
        return found.mT.unflatten(2, (rows, columns))


class ClipCam(Method):
    """Activations that a frozen CLIP gives for the names of an image's labels."""

    name: ClassVar[str] = "clip_cam"
    title: ClassVar[str] = "CLIP-CAM"
    trains: ClassVar[bool] = False
    seeds: ClassVar[SeedSettings] = SeedSettings(
        foreground_threshold=0.45, background_threshold=0.15
    )
    Train: ClassVar[type[TrainClipCamSettings]] = TrainClipCamSettings
    Infer: ClassVar[type[InferClipCamSettings]] = InferClipCamSettings

    @classmethod
    def maps(cls) -> type[CamMaps]:
        """Maps of each scale, as CAM's."""
        return CamMaps

    def build(self, backbone: Backbone, classes: int) -> ClipNetwork:
        """See `Method`."""
        texts = classes + len(self.settings.background_names)
        return ClipNetwork(backbone, texts, self.settings.embedding)

    def prepare(self, network: Any, classes: Sequence[str]) -> None:
        """Embed the names of classes and backgrounds.

        Raises:
            InputError: Names and classes do not match, or the text model does not fit.
        """
        names = self.settings.class_names or classes
        if len(names) != len(classes):
            raise InputError(
                f"train_clip_cam.class_names: {len(names)} names for {len(classes)} classes; give one for "
                f"each, in this order: {', '.join(classes)}"
            )
        bare = [prompt for prompt in self.settings.prompts if "{}" not in prompt]
        if bare:
            raise InputError(f"train_clip_cam.prompts: `{bare[0]}` has no {{}} for the name")
        clip, tokenise = text_model(self.settings)
        text = embedded(
            [*names, *self.settings.background_names], self.settings.prompts, clip, tokenise
        )
        projection = clip.visual.proj.detach().T
        if (text.shape, projection.shape) != (network.text.shape, network.projection.shape):
            raise InputError(
                f"train_clip_cam: `{self.settings.text_model}` embeds texts in {text.shape[1]} numbers, "
                f"images by {projection.shape[1]}; expected {network.text.shape[1]} "
                f"(`embedding`) and {network.projection.shape[1]} (of `backbone`)"
            )
        network.text.copy_(text)
        network.projection.copy_(projection)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], counts: Tensor) -> Tensor:
        """There is none: nothing is trained."""
        raise NotImplementedError

    def activations(
        self, network: Any, image: LabelledImage, infer: Any, device: torch.device
    ) -> CamMaps:
        """See `Method`."""
        return self.activations_together(network, [image], infer, device)[0]

    def activations_together(
        self, network: Any, images: Sequence[LabelledImage], infer: Any, device: torch.device
    ) -> list[CamMaps]:
        """See `Method`."""
        make = network.gradient_maps if infer.maps == "gradient" else network.similarity_maps
        spreading = infer.affinity
        labels = label_rows(images, device)
        backgrounds = torch.arange(images[0].classes, len(network.text), device=device)
        competing = torch.cat([labels, backgrounds.expand(len(images), -1)], dim=1)

        def maps_of(views: Tensor, rows: Tensor) -> Tensor:
            given = network.text[rows.clamp_min(0)], labels.shape[1], (rows < 0)[:, None]
            if spreading.source == "none":
                found: Tensor = make(views, *given)
                return found
            with AttentionRecorder(spreading.blocks) as recorder:
                maps = make(views, *given)
            if spreading.source == "attention":
                attention = recorder.mean(maps.shape[-2] * maps.shape[-1])
            else:
                attention = feature_likeness(network.backbone(views), spreading.temperature)
            return spread(maps, affinity(attention), spreading.box)

        return spread_maps(images, infer.scales, network.backbone, maps_of, competing, device)


def text_model(settings: TrainClipCamSettings) -> tuple[Any, Any]:
    """The whole CLIP, and what turns texts into its tokens.

    Raises:
        InputError: open_clip is not installed, does not know the model, or its weights cannot be had.
    """
    try:
        open_clip = importlib.import_module("open_clip")
    except ImportError:
        raise InputError(
            "train_clip_cam: texts are embedded by open_clip, which is not installed; "
            "`pip install open_clip_torch==3.3.0`"
        ) from None
    name, file = settings.text_model, settings.backbone.file
    if name not in open_clip.list_models():
        raise InputError(
            f"train_clip_cam.text_model: open_clip has no `{name}`; "
            "`python -c 'import open_clip; print(open_clip.list_models())'` lists them"
        )
    if file is None:
        clip = fetched(
            f"{name} {settings.text_weights}",
            lambda: open_clip.create_model(name, pretrained=settings.text_weights),
        )
    else:
        clip = open_clip.create_model(name, pretrained=None)
        load_exactly(clip, read_weights(file), file)
    return clip.float().eval(), open_clip.get_tokenizer(name)


@torch.no_grad()
def embedded(names: Sequence[str], prompts: Sequence[str], clip: Any, tokenise: Any) -> Tensor:
    """Embeddings of names: the mean over the prompts, normalised before and after, [len(names), D]."""
    found = []
    for name in names:
        # Not `format`: other braces of a prompt stay as they are.
        filled = [prompt.replace("{}", name) for prompt in prompts]
        texts = F.normalize(clip.encode_text(tokenise(filled)), dim=-1)
        found.append(F.normalize(texts.mean(dim=0), dim=0))
    return torch.stack(found)
