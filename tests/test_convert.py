"""`edgeft convert` on real checkpoints, good and hostile; every refusal is said in a sentence."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from edgeft.cli import main
from edgeft.errors import RecipeError, StepError
from edgeft.models.convert import convert_checkpoint

pytestmark = pytest.mark.ml


def save(path: Path, content: Any, **options: Any) -> Path:
    import torch

    torch.save(content, path, **options)
    return path


def weights() -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(3)
    return {"layer.weight": torch.randn(4, 3, generator=generator), "layer.bias": torch.zeros(4, dtype=torch.bfloat16)}


def load(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(path))


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and first[name].equal(second[name]) for name in first
    )


@pytest.mark.parametrize("new_form", [True, False], ids=["zip", "before torch 1.6"])
def test_every_tensor_arrives_bit_by_bit(tmp_path: Path, new_form: bool) -> None:
    source = save(tmp_path / "net.pt", weights(), _use_new_zipfile_serialization=new_form)
    done = convert_checkpoint(source)
    assert done.output == tmp_path / "net.safetensors"
    assert same(load(done.output), weights())
    assert (done.tensors, done.files, done.under, done.dropped, done.tied) == (2, 1, "", [], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pt", "net.safetensors"]


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    tied = weights()
    tied["head.weight"] = tied["layer.weight"]
    checkpoint = {
        "state_dict": OrderedDict(tied),
        "epoch": 3,
        "optimizer_states": [{"state": {0: {"m": torch.ones(1)}}}],
    }
    assert main(["convert", str(save(tmp_path / "last.ckpt", checkpoint))]) == 0
    said = capsys.readouterr().out
    assert "last.safetensors: 3 tensors" in said
    assert "the weights were under 'state_dict'" in said
    assert "head.weight shares its data with layer.weight" in said
    assert "'epoch'" in said
    assert "'optimizer_states'" in said
    assert same(load(tmp_path / "last.safetensors"), tied)


def test_entries_that_are_no_tensors_are_reported(tmp_path: Path) -> None:
    done = convert_checkpoint(save(tmp_path / "a.pt", {**weights(), "version": 2, "names": ["x"]}))
    assert done.dropped == ["version (int)", "names (list)"]


def test_views_of_one_storage_get_memory_of_their_own(tmp_path: Path) -> None:
    import torch

    flat = torch.arange(12.0)
    parts = {"a": flat[:6].view(2, 3), "b": flat[6:], "t": flat.view(3, 4).t()}
    done = convert_checkpoint(save(tmp_path / "flat.pt", parts))
    assert same(load(done.output), {name: part.contiguous() for name, part in parts.items()})


def test_several_sets_of_weights_need_a_key(tmp_path: Path) -> None:
    import torch

    source = save(
        tmp_path / "a.pt",
        {"model": weights(), "state_dict": {"w": torch.ones(1)}, "deep": {"ema": {"w": torch.zeros(1)}}},
    )
    with pytest.raises(StepError, match="several sets of weights: state_dict, model") as caught:
        convert_checkpoint(source)
    assert "--key state_dict" in caught.value.hint
    assert same(load(convert_checkpoint(source, tmp_path / "m.safetensors", "model").output), weights())
    assert load(convert_checkpoint(source, tmp_path / "e.safetensors", "deep.ema").output)["w"].item() == 0
    with pytest.raises(StepError, match=r"has no 'deep\.nothing'"):
        convert_checkpoint(source, tmp_path / "n.safetensors", "deep.nothing")


class Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
def test_a_malicious_pickle_is_refused_and_has_not_run(tmp_path: Path, form: str) -> None:
    mark = tmp_path / "evil-has-run"
    evil = {**weights(), "x": Evil(f"touch {mark}")}
    source = tmp_path / "evil.pt"
    if form == "bare pickle":
        source.write_bytes(pickle.dumps({"x": evil["x"]}, protocol=2))
    else:
        save(source, evil, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(StepError, match=r"wants to run `\w+\.system`.*was not run"):
        convert_checkpoint(source)
    assert not mark.exists()
    assert not (tmp_path / "evil.safetensors").exists()
    # The file is what it claims to be: a plain pickle load would have run it.
    if form == "bare pickle":
        pickle.loads(source.read_bytes())
        assert mark.exists()


def test_a_pickle_of_a_newer_protocol_is_refused_without_advice_to_run_it(tmp_path: Path) -> None:
    """torch answers such a file with how to switch `weights_only` off."""
    source = tmp_path / "evil.pkl"
    source.write_bytes(pickle.dumps(Evil(f"touch {tmp_path / 'evil-has-run'}"), protocol=4))
    with pytest.raises(StepError, match="it was not run") as caught:
        convert_checkpoint(source)
    assert "weights_only" not in caught.value.render()
    assert not (tmp_path / "evil-has-run").exists()


def test_a_whole_pickled_model_is_refused_with_the_way_out(tmp_path: Path) -> None:
    import torch

    with pytest.raises(StepError, match=r"wants to run `torch\.nn\.modules\.linear\.Linear`") as caught:
        convert_checkpoint(save(tmp_path / "net.pth", torch.nn.Linear(2, 2)))
    assert "state_dict()" in caught.value.hint


@pytest.mark.parametrize("new_form", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float, new_form: bool) -> None:
    import torch

    source = save(tmp_path / "a.pt", {"w": torch.ones(5000)}, _use_new_zipfile_serialization=new_form)
    data = source.read_bytes()
    source.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(StepError, match=r"damaged or cut short|cannot be read"):
        convert_checkpoint(source)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "small.pt", weights())
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        with new.open("small/data/9", "w") as stream:
            for _ in range(200):
                stream.write(bytes(1 << 20))
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(StepError, match="zip bomb"):
        convert_checkpoint(bomb)


def test_a_tensor_far_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    import torch

    source = save(tmp_path / "wide.pt", {"w": torch.ones(1).expand(10**12)})
    assert source.stat().st_size < 10_000
    with pytest.raises(StepError, match="far more than the file"):
        convert_checkpoint(source)


def test_a_pickle_that_claims_a_huge_text_meets_the_memory_limit(tmp_path: Path) -> None:
    # BINUNICODE8 with a length of 8 GB: an unpickler that trusts it asks for 8 GB.
    source = tmp_path / "claim.pt"
    source.write_bytes(b"\x80\x04\x8d" + struct.pack("<Q", 8 << 30) + b"x.")
    with pytest.raises(StepError):
        convert_checkpoint(source)


def test_the_memory_limit_holds(tmp_path: Path) -> None:
    """The fence itself: a child that asks for more than three times the file plus 1 GiB does not get it."""
    import subprocess
    import sys

    from edgeft.models import convert_child

    code = (
        "import runpy, sys; child = runpy.run_path(sys.argv[1]); child['set_limits'](1 << 30, 1 << 20)\n"
        "try:\n    bytearray(2 << 30)\nexcept MemoryError:\n    print('refused')\n"
        "child['fence'](sys.argv[2].__eq__)\n"
        "import os, socket\n"
        "for forbidden in (lambda: os.system('true'), lambda: socket.socket(), lambda: open(sys.argv[3], 'w')):\n"
        "    try:\n        forbidden()\n    except PermissionError:\n        print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(convert_child.__file__), str(tmp_path / "report"), str(tmp_path / "other")],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["refused"] * 4
    assert not (tmp_path / "other").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit is deprecated; people still have its files
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_a_torchscript_archive_is_refused_with_the_way_out(tmp_path: Path) -> None:
    import torch

    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "net.pt")
    with pytest.raises(StepError, match="TorchScript") as caught:
        convert_checkpoint(tmp_path / "net.pt")
    assert "torch.jit.load" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "no PyTorch checkpoint"), (b"hello world, this is no checkpoint", "no PyTorch checkpoint"), (b"\x1f\x8b" + bytes(30), "no PyTorch")],
)  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(StepError, match=said):
        convert_checkpoint(tmp_path / "x.bin")


def test_safetensors_by_another_name_is_recognised(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(weights(), tmp_path / "net.bin")
    with pytest.raises(StepError, match="safetensors already"):
        convert_checkpoint(tmp_path / "net.bin")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"w": [1.0, 2.0]}], ids=str)
def test_a_checkpoint_without_weights_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(StepError, match=r"not a dictionary|no tensors"):
        convert_checkpoint(save(tmp_path / "a.pt", content))


def test_paths_that_cannot_be_used_are_usage_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "a.pt", weights())
    assert main(["convert", str(tmp_path / "nothing.pt")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    with pytest.raises(RecipeError, match="is a folder"):
        convert_checkpoint(tmp_path)
    with pytest.raises(RecipeError, match=r"must end in \.safetensors"):
        convert_checkpoint(source, tmp_path / "a.bin")
    with pytest.raises(RecipeError, match="no such folder"):
        convert_checkpoint(source, tmp_path / "nowhere" / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"precious")
    with pytest.raises(RecipeError, match="exists already"):
        convert_checkpoint(source)
    assert (tmp_path / "a.safetensors").read_bytes() == b"precious"


def test_a_child_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="not read within") as caught:
        convert_checkpoint(save(tmp_path / "a.pt", weights()), timeout=0.05)
    assert "--timeout" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def sharded(folder: Path) -> Path:
    parts = weights()
    weight_map = {}
    for number, name in enumerate(sorted(parts), 1):
        shard = f"pytorch_model-{number:05d}-of-00002.bin"
        save(folder / shard, {name: parts[name]})
        weight_map[name] = shard
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 56}, "weight_map": weight_map}))
    return index


def test_a_sharded_checkpoint_is_converted_shard_by_shard(tmp_path: Path) -> None:
    done = convert_checkpoint(sharded(tmp_path))
    assert done.output.name == "model.safetensors.index.json"
    weight_map = json.loads(done.output.read_bytes())["weight_map"]
    assert set(weight_map.values()) == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    assert same({name: load(tmp_path / shard)[name] for name, shard in weight_map.items()}, weights())
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


def test_an_index_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    save(tmp_path / "outside.bin", weights())
    index = sharded(tmp_path / "in")
    for shard, said in [("../outside.bin", "not beside it"), ("gone.bin", "missing"), ("", "not beside it")]:
        index.write_text(json.dumps({"weight_map": {"layer.bias": shard}}))
        with pytest.raises(StepError, match=said):
            convert_checkpoint(index)
    for text in ("{", "[]", '{"weight_map": {}}', '{"weight_map": [1]}', "[" * 100_000):
        index.write_text(text)
        with pytest.raises(StepError, match="no index of a sharded checkpoint"):
            convert_checkpoint(index)
    assert not list((tmp_path / "in").glob("*.safetensors*"))


def test_an_index_that_promises_more_than_its_shards_hold_is_refused(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    data = json.loads(index.read_text())
    data["weight_map"]["layer.extra"] = "pytorch_model-00001-of-00002.bin"
    index.write_text(json.dumps(data))
    with pytest.raises(StepError, match=r"layer\.extra"):
        convert_checkpoint(index)
    assert not list(tmp_path.glob("*.safetensors*"))


def test_this_process_never_imports_torch_to_convert(tmp_path: Path) -> None:
    import subprocess
    import sys

    source = save(tmp_path / "a.pt", weights())
    code = "import sys; from edgeft.cli import main; assert main(sys.argv[1:]) == 0; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "convert", str(source)], check=True, timeout=120, capture_output=True)


class Obeyed:
    """Pickled as a numpy kind with a state of the writer's choice, and as a scalar of it."""

    def __init__(self, state: tuple[Any, ...], scalar: bool) -> None:
        self.state, self.scalar = state, scalar

    def __reduce__(self) -> tuple[Any, ...]:
        import numpy as np

        if self.scalar:
            return np.float64(0).__reduce__()[0], (Obeyed(self.state, scalar=False), b"A" * 8)
        return np.dtype, ("f8", False, True), self.state


def test_numbers_of_numpy_beside_the_weights_are_not_obeyed(tmp_path: Path) -> None:
    """numpy would follow their states: to an address of the process in the first, into a fault of its own in the
    second."""
    from edgeft.models import convert_child

    pointer, crooked = (3, "<", None, None, None, -1, -1, 4), (3, "<", None, ("a",), {"a": 5}, -1, -1, 63)
    beside = {"loss": Obeyed(pointer, scalar=True), "kinds": {Obeyed(crooked, scalar=False): 1}}
    source = save(tmp_path / "net.pt", {"state_dict": weights(), **beside})
    found = convert_child.load(source, mapped=True)
    assert type(found["loss"]) is convert_child.Number and type(next(iter(found["kinds"]))) is convert_child.Number
    assert same(load(convert_checkpoint(source).output), weights())
