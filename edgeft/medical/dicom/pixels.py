"""Frames of one DICOM file in modality units, one at a time: decoded, then LUT or slope and intercept."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.medical.dicom.codestream import codestream_sides
from edgeft.medical.dicom.modality import apply_modality
from edgeft.medical.dicom.opened import BIG_ENDIAN, EXPLICIT, IMPLICIT, Opened
from edgeft.medical.dicom.scan import PIXELS
from edgeft.medical.dicom.slices import Form, Slice
from edgeft.medical.dicom.values import get
from edgeft.medical.limits import Refusal

_U = "1.2.840.10008.1.2."
NATIVE = (IMPLICIT, EXPLICIT, BIG_ENDIAN)
CODED = {
    _U + "5": ("RLE", ""), _U + "4.50": ("JPEG baseline", "pillow"), _U + "4.51": ("JPEG extended", "pillow"),
    _U + "4.57": ("JPEG lossless", "pylibjpeg-libjpeg"), _U + "4.70": ("JPEG lossless", "pylibjpeg-libjpeg"),
    _U + "4.80": ("JPEG-LS lossless", "pyjpegls"), _U + "4.81": ("JPEG-LS", "pyjpegls"),
    _U + "4.90": ("JPEG 2000 lossless", "pylibjpeg-openjpeg"), _U + "4.91": ("JPEG 2000", "pylibjpeg-openjpeg"),
    _U + "4.201": ("HTJ2K lossless", "pylibjpeg-openjpeg"), _U + "4.202": ("HTJ2K lossless RPCL", "pylibjpeg-openjpeg"),
    _U + "4.203": ("HTJ2K", "pylibjpeg-openjpeg"),
}  # fmt: skip
"""Transfer syntax -> (name, the distribution that decodes it; empty: pydicom itself)."""
_MODULES = {"pillow": "PIL", "pyjpegls": "jpeg_ls", "pylibjpeg-openjpeg": "openjpeg", "pylibjpeg-libjpeg": "libjpeg"}
_KEYWORDS = dict(zip(PIXELS, ("FloatPixelData", "DoubleFloatPixelData", "PixelData"), strict=True))
_EXTRA_BYTES = 1 << 16
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey: ITU-R BT.601."""
Values = NDArray[np.float64]


def check_syntax(syntax: str) -> None:
    """Refusal naming the transfer syntax and the package to install where no decoder is at hand."""
    if syntax in NATIVE:
        return
    if syntax.startswith(_U + "4.10"):
        raise Refusal(f"is a video (transfer syntax {syntax})", "export its frames as images first")
    if syntax not in CODED:
        shown = syntax if len(syntax) <= 64 and syntax.replace(".", "").isdigit() else "unknown"
        raise Refusal(f"has a transfer syntax that is not read ({shown})", "convert it to an uncompressed one")
    name, package = CODED[syntax]
    if package and importlib.util.find_spec(_MODULES[package]) is None:
        raise Refusal(f"is {name} ({syntax}), and no decoder for it is installed", f"pip install {package}")


def decode_frames(opened: Opened, form: Form, slices: Sequence[Slice], colour: str) -> Iterator[tuple[Values, bool]]:
    """(values in modality units (rows, columns), True where they are whole numbers) of each slice, in this order.

    colour: "grey" turns RGB, YBR and palette images to grey by BT.601; "refuse" refuses them.
    """
    if form.colour and colour != "grey":
        what = f"is a colour image ({form.photometric})"
        raise Refusal(what, "declare colour: grey to read it as grey (ITU-R BT.601)")
    check_syntax(opened.syntax)
    check_length(opened, form)
    indices = [item.frame for item in slices]
    for item, stored in zip(slices, stored_frames(opened, indices), strict=True):
        values = _grey(stored, form, opened.header) if form.colour else stored
        if values.shape != (form.rows, form.columns):
            raise Refusal("decodes to another size than it states")
        yield _to_modality(values, form, item)


def stored_frames(opened: Opened, indices: Sequence[int] | None = None) -> Iterator[NDArray[Any]]:
    """Frames as pydicom decodes them, unused bits cleared, YBR as RGB; indices: which, in this order, None: all."""
    from pydicom.pixels import as_pixel_options, get_decoder

    options = as_pixel_options(opened.header, pixel_keyword=_KEYWORDS[opened.found.tag])
    if opened.found.kind:
        options["pixel_vr"] = opened.found.kind
    opened.stream.seek(opened.found.offset)
    with _decoding(opened.syntax):
        for frame, _ in get_decoder(opened.syntax).iter_array(opened.stream, indices=indices, **options):
            yield frame


@contextmanager
def _decoding(syntax: str) -> Iterator[None]:
    """What a decoder raises becomes a Refusal that names the transfer syntax; its own text is not passed on."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RecursionError) or syntax not in CODED:
            raise
        name, package = CODED[syntax]
        what = f"is {name} ({syntax}) that cannot be decoded: damaged, too large, or a kind that its decoder lacks"
        twelve = "pylibjpeg-libjpeg decodes it where it has 12 bits: pip install pylibjpeg-libjpeg"
        hint = twelve if package == "pillow" else "convert it to an uncompressed transfer syntax"
        raise Refusal(what, hint) from None


def _to_modality(stored: NDArray[Any], form: Form, item: Slice) -> tuple[Values, bool]:
    if form.kind != "int" and not np.isfinite(stored).all():
        raise Refusal(f"holds {int((~np.isfinite(stored)).sum())} pixels that are NaN or infinite")
    values = stored.astype(np.float64)
    if form.colour:
        return values, True
    whole = form.kind == "int" and item.slope.is_integer() and item.intercept.is_integer()
    return apply_modality(values, item.slope, item.intercept, item.lut, form.signed), whole


def _grey(stored: NDArray[Any], form: Form, header: Any) -> Values:
    if form.photometric == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        stored = apply_color_lut(stored, header)
    if stored.ndim != 3 or stored.shape[2] < 3:
        raise Refusal("decodes to something else than red, green and blue")
    grey: Values = np.rint(stored[..., :3].astype(np.float64) @ np.array(LUMA))
    return grey


def check_length(opened: Opened, form: Form) -> None:
    """Refusal for pixel data that is shorter than its form asks for, or compressed pixels of another size."""
    per_frame = form.rows * form.columns * form.samples * form.allocated / 8
    if form.photometric == "YBR_FULL_422" and opened.syntax in NATIVE:
        per_frame *= 2 / 3
    if opened.syntax in NATIVE:
        needed = -int(-per_frame * form.frames // 1)
        if opened.found.length < needed:
            what = f"has {opened.found.length:,} bytes of pixels; {needed:,} are needed: it is cut short"
            raise Refusal(what, "copy or export it again")
        return
    if not opened.found.fragments:
        raise Refusal("states a compressed transfer syntax, and its pixel data is not in fragments")
    if opened.found.length > form.frames * (2 * per_frame + _EXTRA_BYTES):
        raise Refusal(f"has {opened.found.length:,} bytes of compressed pixels, far more than they decode to")
    for number, frame in enumerate(_coded_frames(opened, form), 1):
        sides = codestream_sides(frame)
        if sides is not None and sides != (form.rows, form.columns):
            what = f"has compressed pixels of {sides[0]:,} x {sides[1]:,} in frame {number}"
            raise Refusal(f"{what} and states {form.rows:,} x {form.columns:,}")


def _coded_frames(opened: Opened, form: Form) -> Iterator[bytes]:
    from pydicom.encaps import generate_frames

    offsets, lengths = get(opened.header, "ExtendedOffsetTable"), get(opened.header, "ExtendedOffsetTableLengths")
    extended = (offsets, lengths) if offsets is not None and lengths is not None else None
    opened.stream.seek(opened.found.offset)
    frames = generate_frames(opened.stream, number_of_frames=form.frames, extended_offsets=extended)
    for number, frame in enumerate(frames, 1):
        yield frame
        if number == form.frames:
            return
    if number < form.frames:
        raise Refusal(f"has {number} compressed frames and states {form.frames}")
