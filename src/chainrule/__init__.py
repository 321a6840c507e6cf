"""chainrule: neural networks for images that show their work."""

from chainrule import errors
from chainrule.core.graph import (
    Buffer,
    Parameter,
    Tensor,
    Variable,
    as_tensor,
    assign,
    enable_grad,
    no_grad,
)
from chainrule.ops import *
