"""The graph and what it is made of: specs, scalar expressions, tensors, capture."""

# Tensor.backward looks the walk up among the functions, where importing enters it.
from chainrule.core import backward as backward
