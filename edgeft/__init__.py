"""edgeft: take a model from fine-tuning to a gated, shippable artefact on an edge device."""

import os

__version__ = "0.1.0"

# ONNX Runtime's wheels from 1.29 on send names and hashes of the loaded model home unless this is set before it is
# imported; the hub client counts its users. A build speaks to nobody it was not told to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
