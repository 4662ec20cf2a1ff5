"""Prediction with NumPy and ONNX Runtime alone."""
