"""surgery.json is untrusted: well-formed edits replay exactly, everything else is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import StepError
from edgeft.models.surgery import Surgery, read_surgery, spans

pytestmark = pytest.mark.ml


def content(**changes: Any) -> dict[str, Any]:
    edit = {"edit": "slice", "module": "a.b", "side": "out", "of": 4, "keep": [[0, 2]], **changes}
    return {"format": 1, "edits": [{key: value for key, value in edit.items() if value is not None}]}


def test_spans_are_compact_and_come_back() -> None:
    assert spans([5, 1, 2, 3, 9]) == ((1, 4), (5, 6), (9, 10))
    assert spans([]) == ()
    edit = Surgery.model_validate(content(keep=[(0, 1), (3, 4)])).edits[0]
    assert edit.indices == [0, 3] and edit.count == 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (content(keep=[[0, 9]]), "keep goes up to 9, there are 4"),
        (content(keep=[[2, 3], [0, 1]]), "rise"),
        (content(keep=[[0, 2], [1, 3]]), "rise"),
        (content(keep=[[2, 2]]), "rise"),
        (content(keep=[]), "at least 1 item"),
        (content(keep=[[-1, 2]]), "greater than or equal to 0"),
        (content(of=10**12, keep=[[0, 10**11]]), "less than or equal to 4194304"),
        (content(of="4"), "valid integer"),
        (content(of=4.0), "valid integer"),
        (content(module="../../etc"), "pattern"),
        (content(module="a..b"), "pattern"),
        (content(module="a" * 500), "at most 400"),
        (content(side="up"), "'out' or 'in'"),
        (content(edit="pickle"), "does not match any of the expected tags"),
        (content(extra=1), "Extra inputs"),
        ({"format": 2, "edits": []}, "Input should be 1"),
        ({"format": 1, "edits": content()["edits"] * 20_001}, "at most 20000 items"),
        ({"format": 1, "layers": 10**9, "edits": []}, "less than or equal to 4096"),
        (
            {"format": 1, "edits": [{"edit": "vocabulary", "module": "e", "of": 9, "keep": [[0, 3]], "unknown": 5}]},
            "the unknown token 5 must be kept",
        ),
    ],
)
def test_a_malformed_file_is_refused_with_its_place(tmp_path: Path, data: Any, says: str) -> None:
    (tmp_path / "surgery.json").write_text(json.dumps(data))
    with pytest.raises(StepError, match=r"surgery\.json") as caught:
        read_surgery(tmp_path)
    assert says in caught.value.what and caught.value.hint


def test_what_is_no_json_or_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "surgery.json").write_text("[" * 100_000)
    with pytest.raises(StepError):
        read_surgery(tmp_path)
    with (tmp_path / "surgery.json").open("wb") as stream:
        stream.truncate((16 << 20) + 1)
    with pytest.raises(StepError, match="larger than 16 MB"):
        read_surgery(tmp_path)


def test_no_file_is_no_edit(tmp_path: Path) -> None:
    assert read_surgery(tmp_path).edits == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"module": "0.weigth"}, "no such module"),
        ({"module": "2"}, "a ReLU cannot be cut on its out side"),
        ({"module": "0", "of": 9, "keep": ((0, 3),)}, "for 9 of them, this model has 8"),
        ({"module": "3", "of": 8, "keep": ((0, 1), (4, 7))}, "2 channel groups must keep equally many"),
        ({"module": "1", "side": "in", "of": 8, "keep": ((0, 3),)}, "cannot be cut on its in side"),
    ],
)
def test_an_edit_that_does_not_fit_names_itself(changes: dict[str, Any], says: str) -> None:
    import torch

    from edgeft.models.surgery import Slice, replay

    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, groups=2)
    )
    edit = Slice.model_validate({"module": "0", "side": "out", "of": 8, "keep": ((0, 4),), **changes})
    with pytest.raises(StepError, match="edit 0, slice of") as caught:
        replay(net, [edit])
    assert says in caught.value.what


def test_every_layer_type_is_cut_as_its_arithmetic_says() -> None:
    """Cutting a channel must equal computing with that channel's weights zero, for each layer type a network may have."""
    import torch

    from edgeft.models.surgery import Slice, replay

    torch.manual_seed(0)
    kept = [0, 2, 3, 5, 6, 7]
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.BatchNorm2d(8),
        torch.nn.PReLU(8),
        torch.nn.Conv2d(8, 8, 3, padding=1, groups=8),
        torch.nn.InstanceNorm2d(8, affine=True),
        torch.nn.ConvTranspose2d(8, 6, 2, stride=2),
        torch.nn.Flatten(),
    ).eval()
    for layer in net:
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter)
    net[1].running_mean.normal_()
    data = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        zeroed = net[5].weight.clone()
        net[5].weight[[1, 4]] = 0
        wanted = net(data)
        net[5].weight.copy_(zeroed)
        places = [("0", "out"), ("1", "out"), ("2", "out"), ("3", "out"), ("4", "out"), ("5", "in")]
        replay(net, [Slice(module=name, side=side, of=8, keep=spans(kept)) for name, side in places])  # type: ignore[arg-type]
        found = net(data)
    # Fewer terms in the same sums: equal up to float32 rounding of values of order 10.
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) < 1e-4
    assert net[3].groups == 6 and net[5].in_channels == 6


def test_grouped_convolutions_and_group_norm_keep_as_many_of_each_group() -> None:
    import torch

    from edgeft.models.surgery import Slice, replay

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 1), torch.nn.GroupNorm(2, 8), torch.nn.Conv2d(8, 4, 1, groups=2)
    ).eval()
    weight = net[2].weight.detach().clone()
    kept = [0, 2, 3, 4, 6, 7]
    replay(
        net,
        [
            Slice(module=name, side=side, of=8, keep=spans(kept))
            for name, side in (("0", "out"), ("1", "out"), ("2", "in"))
        ],
    )  # type: ignore[arg-type]
    assert net(torch.randn(1, 4, 3, 3)).shape == (1, 4, 3, 3)
    # Within each group places 0, 2 and 3 stay.
    assert torch.equal(net[2].weight, weight[:, [0, 2, 3]])


def test_a_map_in_front_of_the_embedding_answers_for_every_id() -> None:
    import torch

    from edgeft.models.surgery import Vocabulary, replay

    net = torch.nn.Module()
    net.table = torch.nn.Embedding(10, 3, padding_idx=0)
    rows = net.table.weight.detach().clone()
    replay(net, [Vocabulary(module="table", of=10, keep=((0, 2), (5, 8)), unknown=1)])
    ids = torch.tensor([[0, 1, 5, 7, 9, 3]])
    assert torch.equal(net.table(ids)[0], rows[[0, 1, 5, 7, 1, 1]])
    assert net.table.weight.shape == (5, 3) and net.table.padding_idx == 0
    replay(net, [Vocabulary(module="table", of=10, keep=((0, 2), (7, 8)), unknown=1)])
    assert torch.equal(net.table(ids)[0], rows[[0, 1, 1, 7, 1, 1]])
    with pytest.raises(StepError, match="id 5 was dropped before"):
        replay(net, [Vocabulary(module="table", of=10, keep=((0, 2), (5, 6)), unknown=1)])
