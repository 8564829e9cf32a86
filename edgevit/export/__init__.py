"""Writing the ONNX graph."""
