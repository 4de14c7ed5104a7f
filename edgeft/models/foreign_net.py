"""Networks of MONAI bundles and nnU-Net folders: built by name from plain arguments, filled from safetensors."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.artifact import Artifact
from edgeft.canonical import Facts, canonical_json
from edgeft.errors import StepError
from edgeft.models.code import fill
from edgeft.models.foreign import read_network
from edgeft.models.monai_bundle import WEIGHTS
from edgeft.models.network import NNUNET_NETS, OWN, Network, told
from edgeft.models.nnunet import BUILD_ERRORS, build_nnunet
from edgeft.models.surgery import read_surgery, remember, replay

if TYPE_CHECKING:
    import torch

FORM = "monai"


def load_bundle(model: Artifact, labels: int, seed: int = 0) -> torch.nn.Module:
    """The bundle's network with its weights, or as drawn under `seed` where the recipe says initialise. StepError where
    it answers another number of classes than there are labels, or the weights do not fit."""
    import torch

    network = read_network(model.path)
    if network.outputs is not None and network.outputs != labels:
        raise StepError(
            f"its {network.net} answers {network.outputs} classes, the data has {labels} labels",
            where=str(model.path),
            hint="name the labels in the network's order in data.labels, the background first",
        )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's, of its own optional parts
        _check_memory(network, str(model.path))
        torch.manual_seed(seed)
        module = _build(network.net, dict(network.arguments), str(model.path))
    if model.facts.get("initialise"):
        return module
    surgery = read_surgery(model.path)
    replay(module, surgery.edits)
    fill(module, bundle_weights(model.path))
    remember(module, surgery)
    return module


def bundle_weights(folder: Path) -> Path:
    """The safetensors file of a bundle. Raises StepError where there is none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise StepError("the bundle has no safetensors weights", where=str(folder), hint=f"it needs {WEIGHTS[1]}")


def save_bundle(module: torch.nn.Module, source: Artifact, out: Path) -> Facts:
    """model.safetensors and network.json, so that the folder stands alone."""
    from safetensors.torch import save_file

    network = read_network(source.path)
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
    save_file(state, out / WEIGHTS[0], metadata={"format": "pt"})
    content = {"net": network.net, "arguments": dict(network.arguments)}
    (out / OWN).write_bytes(canonical_json(content, indent=1))
    return {"form": FORM}


def _check_memory(network: Network, where: str) -> None:
    """StepError for a network that this machine cannot hold, before a byte of it is there: a few numbers in a file of
    another's may ask for any size."""
    import psutil
    import torch

    try:
        with torch.device("meta"):
            module = _build(network.net, dict(network.arguments), where)
    except StepError:
        return  # some networks look at values while they are built: the build itself says what is wrong
    needed = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if needed > (there := psutil.virtual_memory().total):
        what = f"its {network.net} takes {needed / 1e9:,.0f} GB, this machine has {there / 1e9:,.0f} GB"
        raise StepError(what, where=where, hint="see the sizes that it states for the network")


def _build(net: str, arguments: dict[str, object], where: str) -> torch.nn.Module:
    if net in NNUNET_NETS:
        return build_nnunet(net, arguments, where)
    try:
        import monai.networks.nets as nets
    except ImportError as error:
        raise StepError("MONAI is not installed", where=where, hint="pip install 'edgeft[medical]'") from error
    try:
        module: torch.nn.Module = getattr(nets, net)(**arguments)
    except BUILD_ERRORS as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise StepError(
            f"MONAI cannot build {net}: {told(first, 300)}", where=where, hint="see its network_def"
        ) from error
    return module
