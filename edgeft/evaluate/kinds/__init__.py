"""A file for each family of gated metrics: scores in, the quantity that decides out."""
