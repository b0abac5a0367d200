import numpy as np
import pytest
import torch

from tests.random_walk_oracle import dense_propagation, dense_transition, pixels_between
from workflow_scripts.models.boundary import half_disc
from workflow_scripts.refinement import random_walk
from workflow_scripts.refinement.random_walk import propagate


@pytest.mark.parametrize("size", [(12, 10), (3, 7), (1, 1), (9, 2)])
@pytest.mark.parametrize("classes", [1, 3])
def test_agrees_with_a_dense_matrix_squared_eight_times(size, classes):
    random = np.random.default_rng(0)
    edge = random.random(size) ** 3
    activations = random.random((classes, *size))
    expected = dense_propagation(activations, edge)
    scores = propagate(torch.tensor(activations), torch.tensor(edge)).numpy()
    assert scores.dtype == np.float32
    assert np.abs(scores - expected).max() <= 1e-4 * expected.max()


def test_settings_change_radius_exponent_and_number_of_steps():
    random = np.random.default_rng(1)
    edge, activations = random.random((8, 9)), random.random((2, 8, 9))
    matrix = np.linalg.matrix_power(dense_transition(edge, 3, 4.0), 7)
    expected = ((activations * (1 - edge)).reshape(2, -1) @ matrix).reshape(2, 8, 9)
    scores = propagate(
        torch.tensor(activations), torch.tensor(edge), radius=3, beta=4.0, steps=7
    ).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-6)


@pytest.mark.parametrize("piece", [1, 150, 32_000])
def test_images_of_a_batch_do_not_mix(monkeypatch, piece):
    monkeypatch.setattr(random_walk, "PIECE", piece)
    generator = torch.Generator().manual_seed(2)
    edge = torch.rand(3, 11, 6, generator=generator)
    activations = torch.rand(3, 2, 11, 6, generator=generator)
    together = propagate(activations, edge)
    apart = torch.stack([propagate(a, e) for a, e in zip(activations, edge, strict=True)])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-7)


def test_large_maps_are_walked_piece_by_piece(monkeypatch):
    generator = torch.Generator().manual_seed(4)
    edge = torch.rand(40, 60, generator=generator)
    activations = torch.rand(2, 40, 60, generator=generator)
    whole = propagate(activations, edge)
    monkeypatch.setattr(random_walk, "PIECE", 2 * 1024)
    torch.testing.assert_close(propagate(activations, edge), whole, rtol=1e-6, atol=0)


def test_a_closed_boundary_holds_the_activation_in():
    edge = torch.zeros(20, 20)
    edge[10, :] = 1
    activations = torch.zeros(1, 20, 20)
    activations[0, 3, 3] = 1
    scores = propagate(activations, edge, steps=512)
    assert scores[0, :10].min() > 0
    assert scores[0, 11:].max() == 0


def test_a_diagonal_boundary_has_no_gap():
    edge = torch.eye(24)
    activations = torch.triu(torch.ones(1, 24, 24), 1)
    scores = propagate(activations, edge)
    assert scores[0].tril(-1).max() == 0


def test_without_edges_a_constant_stays_a_constant():
    """Over 4,096 steps: an error in the sum of a row would show in its 4,096th power."""
    random = np.random.default_rng(3)
    edge = torch.tensor(np.kron(random.random((6, 5)), np.ones((5, 6))) ** 4).float()
    scores = propagate(1 / (1 - edge)[None], edge, steps=4096)
    torch.testing.assert_close(scores, torch.ones_like(scores), rtol=0, atol=1e-3)


def test_no_class_and_no_steps():
    edge = torch.rand(4, 4)
    assert propagate(torch.zeros(0, 4, 4), edge).shape == (0, 4, 4)
    activations = torch.rand(1, 4, 4)
    torch.testing.assert_close(propagate(activations, edge, steps=0), activations * (1 - edge))


def test_refuses_what_is_no_edge_map():
    activations = torch.rand(1, 4, 4)
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        propagate(activations, torch.full((4, 4), torch.nan))
    with pytest.raises(ValueError, match="edges"):
        propagate(activations, torch.zeros(4, 5))


def test_every_pair_within_the_radius_occurs_once():
    for radius in (2, 5, 10):
        reach = range(-radius, radius + 1)
        disc = {(y, x) for y in reach for x in reach if 0 < y * y + x * x < radius * radius}
        later = {(path.dy, path.dx) for path in half_disc(radius)}
        assert len(later) == len(half_disc(radius)) == len(disc) // 2
        assert later | {(-y, -x) for y, x in later} == disc


def test_paths_hold_the_pixels_between_both_ends():
    for path in half_disc(10):
        expected = pixels_between((0, 0), (path.dy, path.dx))
        assert set(path.pixels) == set(expected)
        assert {(0, 0), (path.dy, path.dx)} <= set(path.pixels)
