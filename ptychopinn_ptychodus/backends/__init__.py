"""Training and inference engines; each framework is imported only when its engine is chosen."""
