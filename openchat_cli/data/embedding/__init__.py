"""`data embed`: a vector for each conversation."""
