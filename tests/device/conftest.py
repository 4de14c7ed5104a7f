"""The exporter tests' tiny classifier and its float export."""

from tests.exporters.conftest import classifier, exported

__all__ = ["classifier", "exported"]
