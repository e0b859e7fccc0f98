"""What Ptychodus loads: reconstructors, their settings, and their page in its window."""
