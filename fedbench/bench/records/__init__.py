"""Records: what a cell leaves behind, how it is read, checked and compared."""
