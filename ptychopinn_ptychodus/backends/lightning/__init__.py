"""The PyTorch engine, trained by Lightning."""
