"""`edgeft inspect`: an ONNX file's layers, and which of them 8 bits would hurt."""
