"""The .ort mobile exporter."""
