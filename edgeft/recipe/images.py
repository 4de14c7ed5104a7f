"""The recipe's keys for medical images and for what must hold of the cases."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from edgeft.recipe.section import Section

STORED = "stored"


class Expect(Section):
    """What must hold of every case; each is an error that names the first case that differs, and how many do.

    modalities, shape, range and spacing also go into a medical bundle: `edgeft run --dicom` refuses other images.
    """

    modalities: tuple[str, ...] | None = Field(
        None, description="DICOM: modalities that may occur.", examples=["[CR, DX]"]
    )
    shape: tuple[int | None, int | None] | None = Field(
        None, description="Images: [rows, columns] as they are given; null: any number.", examples=["[512, 512]"]
    )
    range: tuple[float, float] | None = Field(
        None, description="Images: [lowest, highest] value that may occur, in modality units or grey levels."
    )
    spacing: tuple[float, float] | None = Field(
        None,
        description="Medical images: [least, most] mm between the centres of neighbouring pixels, rows and columns.",
    )
    labels: tuple[str, ...] | None = Field(None, description="Labels that must occur, and no others.")
    prevalence: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="Label -> [least, most] share of the rows that have it.",
        examples=["{pneumonia: [0.2, 0.8]}"],
    )

    @property
    def takes(self) -> dict[str, Any]:
        """What preprocess.json states of images; only what is said."""
        return self.model_dump(mode="json", include={"modalities", "shape", "range", "spacing"}, exclude_none=True)

    @model_validator(mode="after")
    def _in_order(self) -> Expect:
        for name, pair in {"range": self.range, "spacing": self.spacing, **self.prevalence}.items():
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name}: [least, most], and {pair[0]:g} is above {pair[1]:g}")
        return self


class Preprocess(Section):
    """Medical images: from modality units to grey levels, in training and on the device by the same file.

    The order is fixed: decode, slope and intercept (or the modality LUT), window, inversion, orientation, spacing.
    """

    window: tuple[float, float] | None = Field(
        None,
        description="[lo, hi] in modality units: lo and below become black, hi and above white, 256 levels between. "
        "Needed for sources dicom and nifti.",
        examples=["[-160, 240]"],
    )
    invert: bool = Field(
        True, description="Invert images whose file says MONOCHROME1 (low values are shown bright), over the window."
    )
    orientation: str = Field(
        "plane",
        pattern=rf"^(plane|{STORED}|[LRAPSI]{{3}})$",
        description="plane: slices are flipped and turned as they are usually shown; stored: as they are in the file; "
        "for volumes also three letters for where columns, rows and slices go, such as LPS.",
    )
    spacing: tuple[float, ...] | None = Field(
        None, min_length=2, max_length=3,
        description="Resample to mm between the centres of [rows, columns], of volumes [slices, rows, columns]; "
        "0 keeps one. Default: as stored.",
    )  # fmt: skip
    check_against: str | None = Field(
        None,
        description="file.py:function of your own pipeline: given a calibration case's file (and, of several slices, "
        "which), it returns what the network sees, and the build stops where that differs.",
    )
    tolerance: float = Field(
        0.02, gt=0, lt=1, description="For check_against: largest difference, as a share of black to white."
    )

    @model_validator(mode="after")
    def _range(self) -> Preprocess:
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError("window: [lo, hi], lo below hi")
        if self.spacing is not None and not all(0 <= mm <= 100 for mm in self.spacing):
            raise ValueError("spacing: mm, from 0 to 100")
        return self

    @property
    def medical(self) -> dict[str, Any] | None:
        """What preprocess.json states, as `edgeft.medical.order.MedicalSpec` reads it; None without a window."""
        if self.window is None:
            return None
        spacing = None if self.spacing is None else [0.0] * (3 - len(self.spacing)) + list(self.spacing)
        orientation = "" if self.orientation == STORED else self.orientation
        return {"window": list(self.window), "orientation": orientation, "spacing": spacing, "invert": self.invert}
