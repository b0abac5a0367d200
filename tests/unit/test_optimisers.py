import pytest
import torch
from torch import nn

from workflow_scripts.settings.training import OptimiserSettings
from workflow_scripts.training.optimisers import build_optimiser, schedule_factor


def test_polynomial_schedule():
    factor = schedule_factor("polynomial", 200)
    assert [factor(step) for step in (0, 100, 199)] == pytest.approx(
        [1, 0.5**0.9, (1 / 200) ** 0.9]
    )
    assert factor(200) == 0


def test_constant_schedule():
    factor = schedule_factor("constant", 10)
    assert {factor(step) for step in range(11)} == {1.0}


def test_one_cycle_rises_for_three_tenths_and_falls():
    factor = schedule_factor("one_cycle", 100)
    assert factor(0) == pytest.approx(1 / 25)
    assert factor(15) == pytest.approx((1 + 1 / 25) / 2)
    assert factor(30) == pytest.approx(1)
    assert factor(65) == pytest.approx((1 + 1e-4) / 2)
    assert factor(100) == pytest.approx(1e-4)
    values = [factor(step) for step in range(101)]
    assert values[:31] == sorted(values[:31])
    assert values[30:] == sorted(values[30:], reverse=True)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 1)
        self.backbone_free = nn.Linear(2, 2)
        self.head = nn.Conv2d(4, 2, 1)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_groups_of_deeplab():
    """Backbone at the base rate, new layers ×10, their biases ×20."""
    network = Network()
    settings = OptimiserSettings(
        learning_rate=2.5e-4, head_factor=10, head_bias_factor=2, momentum=0.9, weight_decay=5e-4
    )
    optimiser = build_optimiser(network, settings)
    groups = [(group["lr"], [id(p) for p in group["params"]]) for group in optimiser.param_groups]
    new = (network.backbone_free, network.head)
    assert groups[0] == (2.5e-4, [id(p) for p in network.backbone.parameters()])
    assert groups[1] == (pytest.approx(2.5e-3), [id(layer.weight) for layer in new])
    assert groups[2] == (pytest.approx(5e-3), [id(layer.bias) for layer in new])
    assert all(group["momentum"] == 0.9 for group in optimiser.param_groups)
    assert all(group["weight_decay"] == 5e-4 for group in optimiser.param_groups)


def test_layers_that_a_network_counts_with_its_backbone():
    network = Network()
    network.at_base_rate = ("head.",)
    optimiser = build_optimiser(network, OptimiserSettings(learning_rate=0.1))
    base = {id(p) for p in optimiser.param_groups[0]["params"]}
    assert {id(p) for p in network.head.parameters()} <= base
    assert id(network.backbone_free.weight) not in base


def test_a_network_without_a_backbone_has_no_empty_group():
    optimiser = build_optimiser(nn.Linear(3, 2, bias=False), OptimiserSettings())
    assert [group["lr"] for group in optimiser.param_groups] == [1.0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_algorithms(name: str, kind: type):
    assert type(build_optimiser(Network(), OptimiserSettings(name=name))) is kind
