"""16-bit activations and 8-bit weights as Qualcomm's QNN takes them, by ONNX Runtime's own helper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

from ..graph import EXTERNAL_ABOVE, MODEL, canonicalise, write_model
from ..tensors import BATCH, cut_batches
from .int8 import PER_CHANNEL, quiet
from .options import Compression

if TYPE_CHECKING:
    import onnx

NOTE = "made for QNN by ONNX Runtime's helper and checked on this CPU; not run on QNN here"


def quantise_qnn(
    model: onnx.ModelProto, kept: list[str], options: Compression, feeds: Mapping[str, Any], fixed: int | None
) -> onnx.ModelProto:
    """Every operator in QDQ form, unsigned activations of `activation_bits`, 8-bit weights, min-max ranges of ORT.

    kept: layers that stay float, which then run on the CPU beside the accelerator. Raises Unsupported.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize
    from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config

    activations = QuantType.QUInt16 if options.activation_bits == 16 else QuantType.QUInt8
    with TemporaryDirectory(prefix="edgeft-qnn-") as name, quiet():
        folder = Path(name)
        (folder / "made").mkdir()
        write_model(model, folder, EXTERNAL_ABOVE)
        try:
            config = get_qnn_qdq_config(
                str(folder / MODEL), _reader(feeds, fixed), activation_type=activations, weight_type=QuantType.QInt8,
                per_channel=PER_CHANNEL, nodes_to_exclude=kept,
            )  # fmt: skip
            quantize(str(folder / MODEL), str(folder / "made" / MODEL), config)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise Unsupported(f"ONNX Runtime's QNN helper cannot take this model: {first}") from error
        made = onnx.load(str(folder / "made" / MODEL))
    canonicalise(made)
    return made


def _reader(feeds: Mapping[str, Any], fixed: int | None) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Cases(CalibrationDataReader):  # type: ignore[misc,unused-ignore]
        """All cases, a batch at a time; of each ORT's collector keeps extremes alone."""

        def __init__(self) -> None:
            self.batches = cut_batches(feeds, BATCH, fixed)

        def get_next(self) -> Any:
            found = next(self.batches, None)
            return None if found is None else found[0]

    return Cases()
