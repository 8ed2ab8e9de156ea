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
    """Put the tensors whose names start with ``prefix`` into a network; every one must fit."""
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    missing, unexpected = network.load_state_dict(own, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise UserError(f"the checkpoint doesn't fit: {', '.join([*missing, *unexpected])}")
