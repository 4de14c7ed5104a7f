"""Quantising an ONNX graph: variants, statistics, ranges, writers."""
