"""Training and inference engines; each framework is imported only when its engine is chosen."""

INSTALL_HINT = 'pip install "ptychopinn-ptychodus[torch]"'
