"""The average of a network's weights: which it is, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from object2vec.training.ema import WeightAverage
from small import configured, network_of, weights_of

BIAS = "head.output.bias"


def test_the_average_by_hand() -> None:
    """With a decay of 3/4 the first four steps count alike, and after them each new one for a quarter: of the weights
    1, 2, 3, 6 and 7 it is 1, 3/2, 2, 3 and 3 + (7 - 3) / 4 = 4. What the weights were before the first step is gone.
    """
    network = network_of(configured())
    average = WeightAverage(network, 0.75)
    found = []
    for value in (1.0, 2.0, 3.0, 6.0, 7.0):
        for parameter in network.parameters():
            parameter.data.fill_(value)
        average.update(network)
        found.append(weights_of(average.network)[BIAS][0])
    assert found == pytest.approx([1, 1.5, 2, 3, 4])
    assert all(weight == pytest.approx(4) for weight in weights_of(average.network).values())


def test_the_network_itself_stays_as_it_is() -> None:
    """Averaging moves no weight of the network that is trained, and frozen tables stay what they are to the bit."""
    frozen = configured(enc0_pretrained_embedding_file="g.txt", enc0_vocab_file="v.json")
    network = network_of(frozen)
    average = WeightAverage(network, 0.9)
    for _ in range(3):
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        average.update(network)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
        network.head.output.weight.data += 0.1
    assert torch.equal(average.network.enc0.embedding.weight, network.enc0.embedding.weight)


def test_tied_tables_stay_tied() -> None:
    """Both encoders of the average share the one averaged table."""
    network = WeightAverage(network_of(configured(tied_token_embedding_weight=True)), 0.9).network
    assert network.enc0.embedding.weight is network.enc1.embedding.weight


def test_a_loaded_average_continues() -> None:
    """After `load_state_dict` and a copy of the averaged weights, the next update gives the same average."""
    network = network_of(configured())
    average, loaded = WeightAverage(network, 0.75), WeightAverage(network_of(configured(), seed=2), 0.75)
    for _ in range(3):
        average.update(network)
    loaded.load_state_dict(average.state_dict())
    loaded.network.load_state_dict(average.network.state_dict())
    network.head.output.bias.data += 1
    for each in (average, loaded):
        each.update(network)
    assert np.array_equal(weights_of(loaded.network)[BIAS], weights_of(average.network)[BIAS])
