"""Everything that knows Ptychodus, and nothing else does."""
