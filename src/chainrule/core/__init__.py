"""The graph and what it is made of: specs, scalar expressions, tensors, capture."""
