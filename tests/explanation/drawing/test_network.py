"""Networks drawn as layers: all layers, their numbers, what runs past them."""

import re

import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.graph import as_tensor
from chainrule.errors import GradientError, OptionError, ShapeError

MODELS = {
    "linear": (28, 28, 1),
    "mlp": (28, 28, 1),
    "cnn": (28, 28, 1),
    "lenet5": (28, 28, 1),
    "vgg": (32, 32, 3),
    "alexnet": (224, 224, 3),
    "resnet20": (32, 32, 3),
    "resnet18": (32, 32, 3),
    "random_wired": (32, 32, 3),
    "unet": (64, 64, 3),
}


def built(name):
    build = nn.model_builder(name)
    hidden = ((30, 30),) if name == "mlp" else ()
    return build(MODELS[name], *hidden, 10)


def parameters(drawing):
    return sum(
        int(found.replace(",", ""))
        for found in re.findall(r", ([\d,]+) parameters?$", drawing.description, re.M)
    )


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_drawn_readably_with_all_its_parameters(read, name):
    model = built(name)
    drawing = cr.draw_network(model, MODELS[name], repeats=False)
    picture = read(drawing.svg)
    picture.check_readable()
    assert parameters(drawing) == model.num_parameters()
    boxes = picture.rectangles()
    for i, (x, y, w, h) in enumerate(boxes):
        assert x >= 0
        assert y >= 0
        assert x + w <= picture.width
        assert y + h <= picture.height
        for a, b, c, d in boxes[i + 1 :]:
            assert x + w <= a or a + c <= x or y + h <= b or b + d <= y
    once = cr.draw_network(model, MODELS[name])
    assert len(read(once.svg).named()) <= max(45, len(picture.named()))
    read(once.svg).check_readable()


@pytest.mark.parametrize("name", ["cnn", "lenet5", "mlp"])
def test_shapes_are_those_of_the_summary(read, name):
    model = built(name)
    drawing = cr.draw_network(model, MODELS[name], depth=9)
    for layer in nn.count(model, MODELS[name]).layers:
        shape = "×".join(map(str, ("n", *layer.shape)))
        assert f"{layer.path}: {layer.layer}, {shape}" in drawing.description


def test_equal_blocks_are_drawn_once_inside_a_frame(read):
    drawing = cr.draw_network(built("resnet20"), (32, 32, 3))
    picture = read(drawing.svg)
    for words in ("block1_1 … block1_3 ×3", "block2_2 … block2_3 ×2"):
        assert words in picture.texts
        assert f"{words}: drawn once" in drawing.description
    names = " ".join(picture.named())
    assert "block1_1.sum.body.conv1" in names
    assert "block1_2" not in names
    frames = [e for e in picture.root.iter() if e.attrib.get("stroke-dasharray")]
    assert len(frames) == 3


def test_shortcuts_are_wires_past_the_body(read):
    model = nn.Sequential(
        first=nn.Dense(4, 4), block=nn.Residual(nn.Dense(4, 4)), last=nn.Dense(4, 2)
    )
    picture = read(cr.draw_network(model, (4,)).svg)
    assert "+" in picture.texts
    heads = [e.attrib["d"] for e in picture.root.iter() if "d" in e.attrib][1]
    # input → first → body → + → last, and first → +
    assert heads.count("z") == 5


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Dense(4, 4), nn.Dropout(0.5), nn.BatchNorm(4))
    before = model.state()
    cr.draw_network(model, (4,))
    assert all(module.training for _, module in model.named_modules())
    assert all((before[k] == v).all() for k, v in model.state().items())


def test_levels_are_closed_as_asked():
    model = built("random_wired")
    shallow = cr.draw_network(model, (32, 32, 3), depth=1)
    deep = cr.draw_network(model, (32, 32, 3), depth=2)
    assert "graph1: " in shallow.description
    assert "graph1.nodes.0: " in deep.description
    closed = cr.draw_network(model, (32, 32, 3), depth=2, collapse="graph2")
    assert "graph2: " in closed.description
    assert "graph1.nodes.0: " in closed.description


def test_a_model_that_looks_at_values_is_drawn_too():
    class Careful(nn.Module):
        def __init__(self):
            self.layer = nn.Dense(3, 2)

        def forward(self, x):
            return self.layer(x) if float(x.sum()) < 1 else x

    assert "layer: Dense" in str(cr.draw_network(Careful(), (3,)))


def test_what_cannot_be_drawn_says_why():
    with pytest.raises(ShapeError, match=r"dense: input has 4 features.*layer 0"):
        cr.draw_network(nn.Sequential(nn.Dense(3, 2)), (4,))
    with pytest.raises(GradientError, match="returns its input as it is"):
        cr.draw_network(nn.Function(as_tensor), (4,))
    with pytest.raises(OptionError, match="no such depth"):
        cr.draw_network(nn.Dense(3, 2), (3,), depth=-1)
