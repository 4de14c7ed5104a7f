"""The Core ML exporter."""
