"""The ExecuTorch exporter."""
