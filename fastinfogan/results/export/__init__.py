"""A trained generator in the formats of others: ONNX, and a folder for a model hub."""
