"""A network's weights under their names, as files keep them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from fastinfogan.errors import UserError


def weights(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and running statistics; torch's count of batches isn't ours to keep."""
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def restore_weights(network: nn.Module, state: Mapping[str, Tensor], prefix: str) -> None:
    """Put the tensors whose names start with ``prefix`` into a network.

    Raises:
        UserError: one doesn't fit, is missing or is one too many.
    """
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    expected = weights(network)
    unfit = [n for n, tensor in expected.items() if n not in own or own[n].shape != tensor.shape]
    unfit += sorted(own.keys() - expected.keys())
    if unfit:
        raise UserError(f"the checkpoint doesn't fit: {', '.join(unfit)}")
    network.load_state_dict(own, strict=False)  # without torch's counts of batches
