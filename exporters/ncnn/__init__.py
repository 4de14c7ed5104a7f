"""The ncnn exporter."""
