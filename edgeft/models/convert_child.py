"""Read one pickle checkpoint and write it as safetensors: a program run by `convert.py` in a child process.

It imports nothing of edgeft but its fences. Three things stand around the checkpoint: `weights_only` unpickling, which
builds tensors and containers only; an audit hook that forbids processes, sockets and writing any file but the report;
and limits on memory, file size and core dumps, set before it is opened.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Started by its path, with -I: the package is not otherwise on the path.
sys.path.append(str(Path(__file__).resolve().parents[2]))
from edgeft.confined import fence, set_limits

SLACK = 64 << 20
_CODE_HINT = "weights need no code: where you trust it, save model.state_dict() alone and convert that"
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "weights", "network")
"""Where training loops put the weights inside a checkpoint, by custom of Lightning, timm, fairseq and others."""
_NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "bad_alloc", "unable to mmap", "not enough memory")


class Refusal(Exception):
    """What is wrong with the checkpoint, and what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def check_form(path: Path) -> bool:
    """True for a zip checkpoint, False for the older form; Refusal for everything else, before any unpickling."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(16)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        raise Refusal("is safetensors already", "nothing to convert: use the file as it is")
    if head[:2] == b"\x80\x02" or head[:2] == b"\x80\x03" or head[:2] == b"\x80\x04":
        return False
    if head[:4] != b"PK\x03\x04":
        raise Refusal("is no PyTorch checkpoint: neither a zip archive nor a pickle", "is the file complete?")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise Refusal(f"is damaged or cut short ({error})", "copy or download it again and compare its size") from None
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise Refusal(
            "is a TorchScript archive: a program, not only weights",
            "where you trust it: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt'), then convert that",
        )
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > size + SLACK or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise Refusal(
            f"holds {unpacked:,} bytes compressed to {size:,}; torch.save never compresses: it may be a zip bomb",
            "unpack it yourself if you trust it, and save it again with torch.save",
        )
    return True


def load(path: Path, mapped: bool) -> Any:
    """The unpickled checkpoint; Refusal with the offending global's name for anything but tensors and containers."""
    import pickle

    import torch

    try:
        with torch.serialization.safe_globals(_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        text = str(error)
        found = re.search(r"GLOBAL ([\w.]+)", text)
        if found:
            raise Refusal(
                f"wants to run `{found.group(1)}` while it is read: refused, and it was not run",
                _CODE_HINT,
            ) from None
        # torch's own text advises to switch the protection off.
        raise Refusal("is a pickle, and none that holds weights alone: it was not run", _CODE_HINT) from None
    except (MemoryError, RecursionError) as error:
        raise Refusal(_no_room() if isinstance(error, MemoryError) else "is nested too deeply") from None
    except (RuntimeError, EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError, OSError) as error:
        if any(text in str(error) for text in _NO_MEMORY):
            raise Refusal(_no_room()) from None
        raise Refusal(f"cannot be read: {_first_line(str(error))}", "is the file complete?") from None


class Number:
    """Stands for a numpy scalar, and for its kind: what the checkpoint states of it is taken and forgotten.

    numpy's own would obey it: a kind whose state says that it holds pointers gives away an address of this process.
    """

    def __init__(self, *stated: Any) -> None:
        """Whatever the checkpoint calls it with."""

    def __setstate__(self, state: Any) -> None:
        """Whatever it was to be filled with."""


def _numbers() -> list[Any]:
    """numpy's scalars, under the names of numpy 1 and 2: training loops keep their losses in them beside the weights.

    Nothing of numpy is called for them. Arrays stay refused.
    """
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")
    return [(Number, name) for name in names]


def _no_room() -> str:
    return "asks for far more memory than its size: refused"


def _first_line(text: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return next((line.strip() for line in plain.splitlines() if line.strip()), "no reason given")[:200]


def pick(loaded: Any, key: str) -> tuple[Mapping[Any, Any], str, list[str]]:
    """(name -> value, the key it was found under, the other entries beside it)."""
    import torch

    if isinstance(loaded, torch.Tensor):
        raise Refusal("is a single tensor without a name", "save a dictionary {name: tensor} instead")
    if not isinstance(loaded, Mapping):
        raise Refusal(f"holds a {type(loaded).__name__}, not a dictionary of tensors")
    if key:
        found = loaded
        for part in key.split("."):
            if not isinstance(found, Mapping) or part not in found:
                there = ", ".join(map(str, list(found)[:8])) if isinstance(found, Mapping) else "nothing"
                raise Refusal(f"has no '{key}'", f"there is: {there}")
            found = found[part]
        if not isinstance(found, Mapping) or not has_tensors(found):
            raise Refusal(f"'{key}' is not a dictionary of tensors")
        return found, key, []
    if has_tensors(loaded):
        return loaded, "", []
    candidates = [str(name) for name, value in loaded.items() if isinstance(value, Mapping) and has_tensors(value)]
    known = [name for name in WRAPPERS if name in candidates] or candidates
    if not known:
        raise Refusal("holds no tensors", "is it an optimiser's or a trainer's state?")
    if len(known) > 1:
        raise Refusal(f"holds several sets of weights: {', '.join(known[:6])}", f"say which: --key {known[0]}")
    found = next(value for name, value in loaded.items() if str(name) == known[0])
    return found, known[0], [str(name) for name in loaded if str(name) != known[0]]


def has_tensors(mapping: Mapping[Any, Any]) -> bool:
    """True when a mapping holds a tensor directly."""
    import torch

    return any(isinstance(value, torch.Tensor) for value in mapping.values())


def gather(mapping: Mapping[Any, Any], limit: int) -> tuple[dict[str, Any], list[str], list[list[str]]]:
    """(name -> tensor with memory of its own, entries left out, pairs of names that were one tensor)."""
    import torch

    tensors: dict[str, Any] = {}
    dropped: list[str] = []
    tied: list[list[str]] = []
    seen: dict[tuple[Any, ...], str] = {}
    storages: set[int] = set()
    total = 0
    for name, value in mapping.items():
        if not isinstance(value, torch.Tensor) or not isinstance(name, str):
            dropped.append(f"{str(name)[:80]} ({type(value).__name__})")
            continue
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise Refusal(f"tensor '{name[:80]}' is sparse, quantised or empty of data: safetensors cannot hold it")
        total += value.numel() * value.element_size()
        if total > limit:
            raise Refusal(
                "its tensors add up to far more than the file: it may be a bomb", "save the tensors contiguous"
            )
        storage = value.untyped_storage().data_ptr()
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if value.numel() and place in seen:
            tied.append([seen[place], name])
        seen.setdefault(place, name)
        tensors[name] = value.detach().contiguous() if storage not in storages else value.detach().clone().contiguous()
        storages.add(storage)
    return tensors, dropped, tied


def convert(request: Mapping[str, Any]) -> dict[str, Any]:
    """The whole job; the answer is JSON."""
    import torch
    from safetensors.torch import save_file

    source, size = Path(request["source"]), Path(request["source"]).stat().st_size
    torch.set_num_threads(1)
    set_limits(int(request["memory"]), 2 * size + 2 * SLACK)
    fence(lambda path: path == request["report"])
    mapping, under, beside = pick(load(source, check_form(source)), request["key"])
    tensors, dropped, tied = gather(mapping, 2 * size + SLACK)
    if not tensors:
        raise Refusal("holds no tensors")
    save_file(tensors, request["target"], metadata={"format": "pt"})
    return {"under": under, "dropped": [*beside, *dropped], "tied": tied, "names": sorted(tensors)}


def main() -> int:
    """Request as JSON in the first argument, answer as JSON in the report file it names."""
    request = json.loads(sys.argv[1])
    try:
        answer: dict[str, Any] = convert(request)
    except Refusal as refusal:
        answer = {"refused": refusal.what, "hint": refusal.hint}
    except MemoryError:
        answer = {"refused": _no_room(), "hint": ""}
    except PermissionError as error:
        answer = {"refused": f"tried something that reading weights never needs: {error}", "hint": "do not trust it"}
    with open(request["report"], "w", encoding="utf-8") as stream:  # noqa: PTH123 - the fence knows this very text
        json.dump(answer, stream)
    return 0


if __name__ == "__main__":
    sys.exit(main())
