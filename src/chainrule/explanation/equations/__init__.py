"""Derivatives as equations: three ways to one, and the lectures' rules."""

from chainrule.explanation.equations.backpropagation import backpropagation
from chainrule.explanation.equations.convolution import (
    ConvolutionIdentities,
    convolution_identities,
)
from chainrule.explanation.equations.delta_equations import Backpropagation, LayerErrors
from chainrule.explanation.equations.demon import DemonTable
from chainrule.explanation.equations.jacobian_structure import JacobianStructure
from chainrule.explanation.equations.jacobians import describe_jacobian
from chainrule.explanation.equations.recorded import recorded_function
from chainrule.explanation.equations.side_by_side import Derivatives, Way
from chainrule.explanation.equations.three_ways import derivatives

__all__ = [
    "Backpropagation",
    "ConvolutionIdentities",
    "DemonTable",
    "Derivatives",
    "JacobianStructure",
    "LayerErrors",
    "Way",
    "backpropagation",
    "convolution_identities",
    "derivatives",
    "describe_jacobian",
    "recorded_function",
]
