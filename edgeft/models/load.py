"""Any torch model of a build as a module: transformers folders, code, and a base with its adapter, float or 4-bit."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgeft.artifact import Artifact
from edgeft.errors import StepError
from edgeft.models.adapter import adapter_about, attach_adapter, whole_modules
from edgeft.models.code import damaged, load_code, mismatch
from edgeft.models.foreign_net import FORM, load_bundle
from edgeft.models.layers import below_heads, body_linears, head_modules
from edgeft.models.quiet import quiet_transformers
from edgeft.models.surgery import Surgery, read_surgery, remember, replay

if TYPE_CHECKING:
    import torch

    from edgeft.stage import Context

AUTO = {
    "text-classification": "AutoModelForSequenceClassification",
    "image-classification": "AutoModelForImageClassification",
    "image-multilabel": "AutoModelForImageClassification",
    "segmentation": "AutoModelForSemanticSegmentation",
    "text-generation": "AutoModelForCausalLM",
}
STORED = "auto"
"""transformers' name for the dtype of the weights on disk."""
Quantise = Literal["auto", "nf4"] | None


def load_model(
    model: Artifact,
    *,
    adapter: Artifact | None = None,
    labels: Sequence[str],
    task: str = "text-classification",
    device: str = "cpu",
    dtype: str = "float32",
    quantise: Quantise = "auto",
    compute_dtype: str | None = None,
    double_quant: bool = True,
    seed: int = 0,
    new_head: bool = False,
) -> torch.nn.Module:
    """The module in eval mode, on `device`. Raises StepError when weights are missing, unexpected or misshapen.

    quantise: `nf4` puts the linear layers below the head in 4 bits; `auto` does what the adapter was trained on.
    compute_dtype: of the 4-bit products; default what the adapter was trained with, else float32.
    new_head: let a missing or differently sized head be initialised, by `seed` alone; without it that is an error,
    because an untrained head would answer at random.
    """
    import torch

    about = adapter_about(adapter) if adapter else {}
    if quantise == "auto":
        quantise = about.get("quantised")
    # For a GPU the host holds the weights as stored, and one layer at a time in float32: half as much for 16 bits.
    held = STORED if quantise == "nf4" and device.startswith("cuda") else dtype
    if model.facts.get("form") == "code":
        module = load_code(model, len(labels), seed).to(getattr(torch, dtype))
    elif model.facts.get("form") == FORM:
        module = load_bundle(model, len(labels), seed).to(getattr(torch, dtype))
    else:
        carried = whole_modules(adapter.path) if adapter else ()
        module = _load_transformers(model, labels, task, dtype=held, seed=seed, new_head=new_head, carried=carried)
    if quantise == "nf4":
        _to_nf4(module, {"double_quant": double_quant, **about}, compute_dtype, device)
    if held != dtype:  # what is not in 4 bits; statistics of normalisation are buffers
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(getattr(torch, dtype))
    module = module.to(device)
    if adapter:
        module = attach_adapter(module, adapter.path)
    return module.eval()


def _to_nf4(module: torch.nn.Module, about: Mapping[str, Any], compute_dtype: str | None, device: str) -> None:
    import torch

    from edgeft.models.nf4 import quantise_nf4

    dtype = getattr(torch, compute_dtype or about.get("compute_dtype") or "float32")
    double = bool(about["double_quant"])
    quantise_nf4(module, body_linears(module), compute_dtype=dtype, double_quant=double, device=device)


def load_source(model: Artifact, adapter: Artifact | None, ctx: Context) -> torch.nn.Module:
    """What a build compares with: the model as trained (unmerged, on its 4-bit base), on CPU, the context's threads."""
    import torch

    torch.set_num_threads(max(1, ctx.threads))
    return load_model(model, adapter=adapter, labels=ctx.labels, task=ctx.task.name, seed=ctx.seed)


def _load_transformers(
    model: Artifact, labels: Sequence[str], task: str, *, dtype: str, seed: int, new_head: bool, carried: Sequence[str]
) -> torch.nn.Module:
    import torch
    import transformers
    from safetensors import SafetensorError

    if task not in AUTO:
        raise StepError(f"no transformers model class is known for task '{task}'", hint=f"known: {', '.join(AUTO)}")
    kind = getattr(transformers, AUTO[task])
    if not model.path.is_dir():
        raise StepError("the model's folder is gone", where=str(model.path), hint="put it back and build again")
    names = dict(enumerate(labels))
    if model.facts.get("initialise"):
        return _initialised(kind, model, names, dtype, seed)
    surgery = read_surgery(model.path)
    safe = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            config = _read_config(model, names)
            module, info = _cut_class(kind, config, surgery).from_pretrained(
                str(model.path),
                **safe,
                config=config,
                dtype=dtype if dtype == STORED else getattr(torch, dtype),
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except SafetensorError as error:
            raise damaged(error, model.path) from error
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise StepError(
                f"transformers cannot load this folder: {first[:300]}", where=str(model.path),
                hint="it needs config.json and safetensors weights of an architecture this transformers version has",
            ) from error  # fmt: skip
    _check_loaded(module, info, model, new_head=new_head, carried=carried, labels=len(labels))
    _finish_surgery(module, surgery)
    module.name_or_path = ""  # a path of this machine would reach saved configurations
    module.config._name_or_path = ""
    return module


def _cut_class(kind: Any, config: Any, surgery: Surgery) -> Any:
    """The class to load by: the auto class, or for a pruned model one that replays its edits as soon as it is built.

    So transformers fills the pruned shapes with all its own checks, and builds on the meta device as ever.
    """
    if not surgery.edits:
        return kind
    try:
        whole: Any = kind._model_mapping[type(config)]
    except KeyError as error:
        raise ValueError(f"{type(config).__name__} has no model for this task") from error
    if surgery.layers is not None:
        config.num_hidden_layers = surgery.layers

    def build(self: Any, *args: Any, **kwargs: Any) -> None:
        whole.__init__(self, *args, **kwargs)
        replay(self, surgery.edits)

    return type(whole.__name__, (whole,), {"__init__": build, "__module__": whole.__module__})


def _finish_surgery(module: Any, surgery: Surgery) -> None:
    """The plain class again, the edits remembered, and what transformers does not store filled in."""
    if surgery.edits:
        from edgeft.models.vocabulary import fill_maps

        module.__class__ = type(module).__mro__[1]
        remember(module, surgery)
        fill_maps(module)


def _read_config(model: Artifact, names: Mapping[int, str]) -> Any:
    """The folder's config for these labels, if any; no code of the folder is run and nothing is fetched."""
    import transformers

    labels: dict[str, Any] = {
        "num_labels": len(names),
        "id2label": dict(names),
        "label2id": {label: index for index, label in names.items()},
    }
    return transformers.AutoConfig.from_pretrained(
        str(model.path), local_files_only=True, trust_remote_code=False, **(labels if names else {})
    )


def _initialised(kind: Any, model: Artifact, names: Mapping[int, str], dtype: str, seed: int) -> torch.nn.Module:
    """The architecture that config.json states, with weights drawn by the seed."""
    import torch

    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            config = _read_config(model, names)
            module: torch.nn.Module = kind.from_config(config)
            module = module.to(torch.float32 if dtype == STORED else getattr(torch, dtype))
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise StepError(f"transformers cannot build this: {first[:300]}", where=str(model.path)) from error
    module.name_or_path = ""
    module.config._name_or_path = ""
    return module


def _check_loaded(
    module: torch.nn.Module,
    info: Mapping[str, Any],
    model: Artifact,
    *,
    new_head: bool,
    carried: Sequence[str],
    labels: int,
) -> None:
    """Weights may be absent or of another shape in the head alone, and there only if trained later or carried."""
    absent = {_name(item) for item in info["missing_keys"]} | {_name(item) for item in info["mismatched_keys"]}
    body = sorted(below_heads(sorted(absent), head_modules(module)))
    if body:
        raise StepError(
            mismatch(body, sorted(_name(item) for item in info["unexpected_keys"])), where=str(model.path),
            hint="the checkpoint is of another architecture, or was pruned and has lost its surgery.json",
        )  # fmt: skip
    left = sorted(name for name in absent if not _carries(carried, name))
    if left and not new_head:
        answers = f"{labels} labels" if labels else "next tokens"
        raise StepError(
            f"this model has no trained head for {answers}: {', '.join(left[:4])}",
            where=str(model.path),
            hint="fine-tune it first (steps: [finetune: {}]), or give data with the labels it was trained on",
        )  # fmt: skip


def _carries(modules: Collection[str], name: str) -> bool:
    """True when a parameter lies in one of the modules an adapter carries whole (PEFT matches by suffix)."""
    owner = name.rpartition(".")[0]
    parts = owner.split(".")
    parents = {".".join(parts[: end + 1]) for end in range(len(parts))}
    return any(parent == module or parent.endswith("." + module) for parent in parents for module in modules)


def _name(item: Any) -> str:
    """A key of the loading info: a name, or (name, shape, shape) where shapes differ."""
    return str(item[0]) if isinstance(item, tuple | list) else str(item)
