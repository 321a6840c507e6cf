"""How models and training behave: boundaries, landscapes, depth, steps, capacity."""

from chainrule.explanation.behaviour.activations import (
    ActivationFunctions,
    activation_functions,
)
from chainrule.explanation.behaviour.boundaries import (
    DecisionBoundary,
    decision_boundary,
)
from chainrule.explanation.behaviour.built import bumps, dense, tower, towers
from chainrule.explanation.behaviour.capacity import (
    CapacityGrid,
    Overfitting,
    capacity_grid,
    overfitting,
)
from chainrule.explanation.behaviour.convex import (
    Convexity,
    convexity,
    loss_convexity,
)
from chainrule.explanation.behaviour.descent import Descent, Weights, descend
from chainrule.explanation.behaviour.gradient_flow import (
    LayerGradients,
    VanishingGradients,
    layer_gradients,
    vanishing_gradients,
)
from chainrule.explanation.behaviour.lines import Hyperplanes, hyperplanes
from chainrule.explanation.behaviour.loss_line import LossLine, loss_along_line
from chainrule.explanation.behaviour.loss_plane import LossPlane, loss_on_plane
from chainrule.explanation.behaviour.panels import Panel, Panels
from chainrule.explanation.behaviour.plane import Window
from chainrule.explanation.behaviour.points import corner, moons, rings
from chainrule.explanation.behaviour.saturating import (
    SaturatedUnit,
    Saturation,
    saturated_unit,
    saturation,
)
from chainrule.explanation.behaviour.steps import (
    StepSizes,
    UpdateRules,
    Valley,
    step_sizes,
    update_rules,
)
from chainrule.explanation.behaviour.units import (
    CombinedUnits,
    UnitResponse,
    combined_units,
    unit_response,
)
from chainrule.explanation.behaviour.universal import Approximation, approximation
from chainrule.explanation.behaviour.warping import SpaceWarping, Stage, space_warping
from chainrule.explanation.behaviour.without_activation import Collapse, collapse

__all__ = [
    "ActivationFunctions",
    "Approximation",
    "CapacityGrid",
    "Collapse",
    "CombinedUnits",
    "Convexity",
    "DecisionBoundary",
    "Descent",
    "Hyperplanes",
    "LayerGradients",
    "LossLine",
    "LossPlane",
    "Overfitting",
    "Panel",
    "Panels",
    "SaturatedUnit",
    "Saturation",
    "SpaceWarping",
    "Stage",
    "StepSizes",
    "UnitResponse",
    "UpdateRules",
    "Valley",
    "VanishingGradients",
    "Weights",
    "Window",
    "activation_functions",
    "approximation",
    "bumps",
    "capacity_grid",
    "collapse",
    "combined_units",
    "convexity",
    "corner",
    "decision_boundary",
    "dense",
    "descend",
    "hyperplanes",
    "layer_gradients",
    "loss_along_line",
    "loss_convexity",
    "loss_on_plane",
    "moons",
    "overfitting",
    "rings",
    "saturated_unit",
    "saturation",
    "space_warping",
    "step_sizes",
    "tower",
    "towers",
    "unit_response",
    "update_rules",
    "vanishing_gradients",
]
