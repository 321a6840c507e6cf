"""What a network has learned, in pictures, words and numbers."""

from chainrule.explanation.features.activations import (
    Activation,
    Activations,
    activations,
)
from chainrule.explanation.features.attribution import Attribution
from chainrule.explanation.features.confusions import (
    Confusions,
    confused_pairs,
    confusions,
)
from chainrule.explanation.features.exciting import (
    Answers,
    Exciting,
    answers,
    most_exciting,
)
from chainrule.explanation.features.inside import Inside, LayerState, look_inside
from chainrule.explanation.features.layers import UpTo
from chainrule.explanation.features.maps import class_activation_map
from chainrule.explanation.features.occlusion import occlusion
from chainrule.explanation.features.slopes import integrated_gradients, saliency
from chainrule.explanation.features.templates import Templates, first_weights
from chainrule.explanation.features.visualisation import Visualised, visualise

__all__ = [
    "Activation",
    "Activations",
    "Answers",
    "Attribution",
    "Confusions",
    "Exciting",
    "Inside",
    "LayerState",
    "Templates",
    "UpTo",
    "Visualised",
    "activations",
    "answers",
    "class_activation_map",
    "confused_pairs",
    "confusions",
    "first_weights",
    "integrated_gradients",
    "look_inside",
    "most_exciting",
    "occlusion",
    "saliency",
    "visualise",
]
