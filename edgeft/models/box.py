"""A named place for a code model inside PEFT; imported only where torch is loaded already."""

from __future__ import annotations

from typing import Any

import torch

PLACE = "net"


class Box(torch.nn.Module):  # type: ignore[misc]
    """Holds a code model under `net`.

    PEFT finds the modules to train whole by the end of their names, so a head called `out` would also catch
    `lora_dropout`, and `fc` every `block.fc`. Inside the box the head is `net.out`, which ends no other name.
    """

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the code model answers."""
        return self.net(*args, **kwargs)


def boxed(name: str) -> str:
    """A layer's name inside the box."""
    return f"{PLACE}.{name}"
