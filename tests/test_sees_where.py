"""Layers that see where they are: what they read, and the same generator without them in a file."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from engine_cases import tiny

from fastinfogan.config import Architecture, everywhere, fc, upconv
from fastinfogan.model.initial import initialize
from fastinfogan.model.latent_spec import make_spec
from fastinfogan.model.networks import Discriminator, Generator
from fastinfogan.model.plain import without_coordinates
from fastinfogan.model.weights import weights
from fastinfogan.results.generator_file import export_generator, load_generator

pytestmark = pytest.mark.usefixtures("narrow_presets")
SPEC = make_spec(3, "cat3,2xuni")


def generator(*rows):
    """With weights, batchnorm's and biases at random, in eval mode."""
    architecture = Architecture((1, 12, 8), (*rows, upconv(1, "tanh")), (), ())
    network = Generator(architecture, SPEC).eval()
    random = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=random))
            if name.endswith("running_var"):
                tensor.abs_().add_(0.1)
    return architecture, network


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("first", [(), (fc(5, "relu", bn=True),)])
def test_a_file_s_rows_make_the_same_images_without_coordinates(first, normed):
    architecture, network = generator(*first, everywhere((4, 6, 4), "lrelu", bn=normed))
    plain, tensors = without_coordinates(architecture, weights(network))
    assert not any(row.coordinates for row in plain.generator)
    other = Generator(plain, SPEC).eval()
    other.load_state_dict(tensors, strict=False)
    latents = torch.randn(7, SPEC.input_width)
    images = network(latents)
    torch.testing.assert_close(other(latents), images)
    assert images.std(dim=0).max() > 0.1 and images.std(dim=(2, 3)).max() > 0.1


def test_what_has_no_coordinates_is_handed_on_as_it_is():
    architecture, network = generator(fc((4, 6, 4), "relu", bn=True))
    tensors = weights(network)
    same, handed = without_coordinates(architecture, tensors)
    assert same == architecture and handed.keys() == tensors.keys()
    assert all(handed[name] is tensor for name, tensor in tensors.items())


def test_an_exported_generator_is_the_one_that_was_trained(tmp_path):
    config = tiny("sprites")
    network = Generator(config.architecture, config.spec).eval()
    initialize(network, config.architecture, torch.Generator().manual_seed(2))
    export_generator(tmp_path / "g.safetensors", network, config, iteration=3)
    latents = torch.rand(5, config.spec.input_width)
    loaded = load_generator(tmp_path / "g.safetensors").generator
    torch.testing.assert_close(loaded(latents), network(latents))


def test_a_layer_everywhere_sees_the_corners_as_minus_one_and_one():
    """x from the left, y from the top; what it makes of the latents is the same everywhere."""
    _, network = generator(everywhere((3, 6, 4)))
    block = network.layers[0]
    with torch.no_grad():
        latents = torch.randn(2, SPEC.input_width)
        maps = block(latents)
        of_x, of_place = block.op.weight.tensor_split([-2], dim=1)
        middle = latents @ of_x.T + block.op.bias
    assert maps.shape == (2, 3, 6, 4)
    for row, column, place in ((0, 0, (-1, -1)), (0, 3, (1, -1)), (5, 0, (-1, 1)), (5, 3, (1, 1))):
        expected = middle + of_place @ torch.tensor(place, dtype=torch.float32)
        torch.testing.assert_close(maps[:, :, row, column], expected)


def test_a_convolution_that_sees_where_it_is_tells_a_shape_from_the_same_elsewhere():
    """Three rows in and three down, away from the border, other convolutions only move along."""
    config = tiny("sprites")
    images = torch.zeros(2, 1, 32, 32)
    images[0, :, 8:14, 8:14] = images[1, :, 14:20, 14:20] = 1.0
    found = []
    for coordinates in (True, False):
        first, *others = config.architecture.trunk
        trunk = (replace(first, coordinates=coordinates), *others)
        architecture = replace(config.architecture, trunk=trunk)
        d = Discriminator(architecture, config.spec).eval()
        initialize(d, architecture, torch.Generator().manual_seed(0))
        with torch.no_grad():
            maps = d.trunk[0](images)
        assert maps.shape[2:] == (16, 16)
        found.append(torch.equal(maps[0, :, 3:8, 3:8], maps[1, :, 6:11, 6:11]))
    assert found == [False, True]
