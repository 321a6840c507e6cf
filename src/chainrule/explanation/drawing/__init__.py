"""Drawings as SVG: graphs as circuits, networks as layers, convolution place by place.

Every drawing is a walk over a graph that trains; layout, SVG and pages are chainrule's
own, so nothing needs to be installed and nothing is fetched.
"""

from chainrule.explanation.drawing.convolution import draw_convolution
from chainrule.explanation.drawing.frames import Frames
from chainrule.explanation.drawing.graphs import draw
from chainrule.explanation.drawing.network import draw_network
from chainrule.explanation.drawing.notebook import graph_html, graph_svg
from chainrule.explanation.drawing.opened import traced_model
from chainrule.explanation.drawing.stepping import draw_frames
from chainrule.explanation.drawing.svg import Drawing
from chainrule.explanation.drawing.terminal import draw_text

__all__ = [
    "Drawing",
    "Frames",
    "draw",
    "draw_convolution",
    "draw_frames",
    "draw_network",
    "draw_text",
    "graph_html",
    "graph_svg",
    "traced_model",
]
