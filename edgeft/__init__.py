"""edgeft: take a model from fine-tuning to a gated, shippable artefact on an edge device."""

__version__ = "0.1.0"
