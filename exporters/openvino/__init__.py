"""The OpenVINO exporter."""
