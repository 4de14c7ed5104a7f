"""The LiteRT exporter."""
