"""The report: one page that stands alone, whatever names it has to show."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, tasks
from chainrule.errors import FileError
from chainrule.explanation.features import Activation, activations, first_weights
from chainrule.tasks import Settings
from chainrule.tasks.charts import picture_url, template_urls
from chainrule.tasks.inside import LayerCost, layer_costs
from chainrule.tasks.report import (
    Mistake,
    Report,
    Sample,
    Strengths,
    Strip,
    write_report,
)
from chainrule.tasks.words import score_name, score_text, share_text

VOID = {"meta", "link", "img", "br", "path", "use", "rect"}


class Page(HTMLParser):
    """Tags in order; fails where they do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.text += " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def history(score="accuracy", epochs=4):
    return [
        {
            "event": "epoch",
            "epoch": e,
            "training": {"loss": 1 / e, score: 1 - 0.5 / e},
            "validation": {"task": "x", "loss": 1.1 / e, score: 0.9 - 0.5 / e},
            "is_best": e == 2,
            "time_s": float(e),
        }
        for e in range(1, epochs + 1)
    ]


def make(**changes):
    facts = {
        "title": "digits-mlp-1",
        "settings": dataclasses.asdict(
            Settings(model="mlp", hidden=(256,), loss="softmax")
        ),
        "command": "chainrule train --epochs 4",
        "history": history(),
        "results": {
            "task": "classify",
            "accuracy": 0.975,
            "loss": 0.1,
            "num_examples": 360,
            "best_epoch": 2,
            "epochs": 4,
            "num_parameters": 24790,
            "time_s": 63.0,
        },
        "score": "accuracy",
    }
    return Report(**(facts | changes))


@pytest.fixture
def written(tmp_path):
    def write(report):
        write_report(tmp_path / "report.html", report)
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        return text, Page(text)

    return write


def squeezed(page):
    return re.sub(r"\s+", " ", page.text)


def test_the_head_tells_the_score_how_sure_it_is_and_the_cost(written):
    _, page = written(make())
    text = squeezed(page)
    assert (
        "97.50 % accuracy on 360 test examples (95 % interval 95.3 to 98.7 %)" in text
    )
    assert "parameters 24,790" in text
    assert "best epoch 2 of 4" in text
    assert "training time 1 min 03 s" in text
    assert "mlp 256 trained on digits with adam, softmax loss" in text
    assert "chainrule train --epochs 4" in text


def test_the_page_loads_nothing_from_elsewhere(written):
    picture = np.zeros((8, 8, 3), np.uint8)
    text, page = written(
        make(
            names=["a", "b"],
            confusion=np.array([[3, 1], [0, 4]]),
            mistakes=[Mistake("a", "b", 0.9, 0.1, picture, "x/1.png")],
            templates=np.ones((2, 8, 8, 3)),
        )
    )
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:", "#")), value
    assert not page.all("script")
    assert "@import" not in text
    assert "url(http" not in text


def test_names_of_other_people_are_text_and_nothing_else(written):
    evil = '<script>alert("1")</script>'
    text, page = written(
        make(
            title=evil,
            command=f"chainrule train '{evil}'",
            settings=dataclasses.asdict(Settings(data=evil)),
            names=[evil, "$x^2"],
            confusion=np.array([[3, 1], [2, 4]]),
            mistakes=[Mistake(evil, evil, 0.9, 0.1, None, evil + '" onload="x')],
            health=[evil],
            layers=[LayerCost(evil, evil, evil, 1, 1, 1, 1.0)],
            templates=np.ones((2, 4, 4, 1)),
            template_kind="class",
            sample=Sample(
                np.zeros((4, 4, 1)), [Activation(evil, 1, np.ones((1, 2, 2)))]
            ),
            environment={"processor": evil},
        )
    )
    assert not page.all("script")
    assert "<script" not in text
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert evil in page.text


def test_curves_come_with_the_best_epoch_and_a_description(written):
    text, page = written(make())
    described = [a["aria-label"] for a in page.all("div") if "aria-label" in a]
    assert described == [
        "loss over 4 epochs: training from 1 to 0.25, "
        "validation from 1.1 to 0.275; best epoch 2",
        "accuracy over 4 epochs: training from 50.00 % to 87.50 %, "
        "validation from 40.00 % to 77.50 %; best epoch 2",
    ]
    assert text.count("best: epoch 2") == 2
    assert len(page.all("svg")) == 2
    assert "currentColor" in text
    names = re.findall(r'<g id="', text)
    assert names == []


def test_a_run_of_one_epoch_or_none_has_its_report(written):
    _, page = written(make(history=history(epochs=1)))
    assert len(page.all("svg")) == 2
    text, page = written(make(history=[], results={}))
    assert not page.all("svg")
    assert "Learning curves" not in text


def test_scores_that_are_not_finite_do_not_break_the_curves(written):
    rows = history()
    for row in rows:
        row["validation"]["loss"] = float("inf")
        row["training"].pop("accuracy")
    _, page = written(make(history=rows))
    assert len(page.all("svg")) == 2


def test_the_confusion_matrix_shows_its_counts(written):
    confusion = np.array([[8, 2, 0], [0, 9, 1], [5, 0, 5]])
    _, page = written(make(names=["cat", "dog", "cow"], confusion=confusion))
    text = squeezed(page)
    assert "predicted true cat dog cow cat 8 2 dog 9 1 cow 5 5" in text
    # The worst confusion comes first, then per-class precision, recall, F1, examples.
    assert "of the class cow cat 5 50.0 % cat dog 2 20.0 %" in text
    assert "cat 0.615 0.800 0.696 10" in text
    hits = [a for a in page.all("td") if a.get("class") == "hit"]
    assert len(hits) == 3


@pytest.mark.parametrize("num_classes", [2, 20, 21, 100])
def test_confusion_matrices_of_any_size_have_every_class(written, num_classes):
    rng = np.random.default_rng(0)
    confusion = rng.integers(0, 3, (num_classes, num_classes))
    names = [f"class {i}" for i in range(num_classes)]
    text, _ = written(make(names=names, confusion=confusion))
    rows = re.findall(r'<th scope="row" title="(class \d+)"', text)
    assert rows == names
    assert len(text) < 2_000_000


def test_a_thousand_classes_are_told_by_their_worst_confusions(written):
    confusion = 50 * np.eye(1000, dtype=int)
    confusion[3, 7] = 41
    names = [f"class {i}" for i in range(1000)]
    text, page = written(make(names=names, confusion=confusion))
    assert 'class="matrix' not in text
    assert "class 3 class 7 41 45.1 %" in squeezed(page)


def test_a_class_without_test_examples_is_no_division_by_zero(written):
    _, page = written(make(names=["a", "b"], confusion=np.array([[3, 0], [0, 0]])))
    assert "b 0.000 0.000 0.000 0" in squeezed(page)


def test_mistakes_are_shown_with_truth_probability_and_file(written):
    picture = np.full((8, 8, 1), 200, np.uint8)
    mistakes = [
        Mistake("cat", "dog", 0.99999, 0.00001, picture, "animals.zip/test/cat/7.png"),
        Mistake("dog", "cat", 0.6, 0.4),
    ]
    _, page = written(make(mistakes=mistakes))
    text = squeezed(page)
    assert "said dog > 99.9 % true cat < 0.1 % 7.png" in text
    assert "said cat 60.0 % true dog 40.0 %" in text
    (image,) = page.all("img")
    assert image["alt"] == "a picture of cat taken for dog"


def test_templates_of_classes_carry_their_names_and_hidden_units_their_numbers(written):
    templates = np.zeros((3, 4, 4, 1))
    names = ["a", "b", "c"]
    _, page = written(make(templates=templates, template_kind="class", names=names))
    assert [i["alt"] for i in page.all("img")] == [f"weights of {n}" for n in "abc"]
    _, page = written(make(templates=np.zeros((100, 4, 4, 1))))
    assert len(page.all("img")) == 64
    assert "Shown are 64 of 100." in squeezed(page)


def test_filters_are_shown_as_what_is_slid_over_the_picture(written):
    filters = np.zeros((8, 3, 5, 1))
    _, page = written(make(templates=filters, template_kind="filter"))
    assert page.all("img")[0]["alt"] == "weights of filter 1"
    assert "A filter of 3×5 pixels is slid over the picture" in squeezed(page)


def test_the_activations_of_a_picture_are_rows_of_pictures(written):
    maps = np.linspace(0, 1, 2 * 3 * 4).reshape(2, 3, 4)
    shown = [Activation("network.stage1.activation", 32, maps)]
    _, page = written(make(sample=Sample(np.zeros((6, 8, 3), np.uint8), shown)))
    assert "stage1.activation 3×4, 2 of 32 channels" in squeezed(page)
    whole, first, second = (pixels(i["src"]) for i in page.all("img"))
    assert whole.shape == (6, 8, 3)
    assert first.shape == second.shape == (3, 4)
    assert (first.min(), second.max()) == (0, 255), "one scale for a layer's channels"
    assert first.max() < second.min()


def test_the_table_of_layers_adds_up(written):
    layers = [
        LayerCost("stage1.conv", "Conv(1, 2, 3)", "6×6×2", 20, 648, 2048, 0.003),
        LayerCost("relu", "ReLU()", "6×6×2", 0, 0, 2048, 0.001),
    ]
    text, page = written(make(layers=layers))
    assert "stage1.conv Conv(1, 2, 3) 6×6×2 20 648 2.00 3.000" in squeezed(page)
    assert "relu ReLU() 6×6×2 2.00 1.000 all 20 648 4.00 4.000" in squeezed(page)
    assert "--share:75.0%" in text


def test_labels_have_a_row_each(written):
    scores = {"f1": np.array([0.5, 1.0]), "num_examples": np.array([3, 1200])}
    _, page = written(
        make(
            names=["sea", "sky"],
            label_scores=scores,
            score="average_precision",
            history=history("average_precision"),
            results={"average_precision": 0.75, "f1_micro": 0.8, "num_examples": 9},
        )
    )
    text = squeezed(page)
    assert "0.75 average precision on 9 test examples" in text
    assert "F1 micro 0.8" in text
    assert "label F1 examples sea 0.500 3 sky 1.000 1,200" in text


def test_numbers_are_plotted_against_the_truth(written):
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(3000, 2))
    _, page = written(
        make(
            names=["age", "<size>"],
            targets=targets,
            predictions=targets + 0.5,
            score="r2",
            history=history("r2"),
            results={"r2": 0.9},
        )
    )
    described = [a["aria-label"] for a in page.all("div") if "aria-label" in a]
    assert "age: predicted against true, mean absolute error 0.5" in described
    assert len(page.all("svg")) == 4
    assert "0.9 R² on the test set" in squeezed(page)


def test_equal_reports_are_equal_bytes(written):
    assert written(make())[0] == written(make())[0]


def test_a_report_that_cannot_be_written_is_one_clear_error(tmp_path):
    with pytest.raises(FileError, match="cannot write"):
        write_report(tmp_path / "missing" / "report.html", make())


def test_scores_read_as_people_write_them():
    assert score_text("accuracy", 0.5) == "50.00 %"
    assert score_text("loss", 0.000123456) == "0.0001235"
    assert score_text("num_examples", 1797) == "1,797"
    assert score_name("top_5_accuracy") == "top 5 accuracy"
    assert score_name("f1_macro") == "F1 macro"


def test_what_is_not_certain_is_not_rounded_to_certainty():
    assert [share_text(p) for p in (0.0, 1e-9, 0.5, 1 - 1e-9, 1.0)] == [
        "0.0 %",
        "< 0.1 %",
        "50.0 %",
        "> 99.9 %",
        "100.0 %",
    ]


def pixels(url):
    import base64
    import io

    from PIL import Image

    data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


def test_grey_templates_are_red_above_zero_and_blue_below():
    weights = np.array([[[[1.0], [-1.0]], [[0.0], [0.5]]]])
    (url,) = template_urls(weights)
    red, blue, white, half = pixels(url).reshape(4, 3).tolist()
    assert red == [178, 24, 43]
    assert blue == [33, 102, 172]
    assert white == [255, 255, 255]
    assert half[0] > half[1]


def test_colour_templates_span_black_to_white_and_constant_ones_are_no_error():
    spread = np.arange(12.0).reshape(1, 2, 2, 3)
    urls = template_urls(np.concatenate([spread, np.ones((1, 2, 2, 3))]))
    assert pixels(urls[0]).min() == 0
    assert pixels(urls[0]).max() == 255
    assert not pixels(urls[1]).any()


def test_pictures_of_any_kind_become_small_files():
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (600, 400, 3), dtype=np.uint8)
    assert pixels(picture_url(large)).shape == (128, 85, 3)
    small = rng.integers(0, 256, (5, 4, 1), dtype=np.uint8)
    assert np.array_equal(pixels(picture_url(small)), small[..., 0])
    assert pixels(picture_url(rng.normal(size=(5, 4, 1)))).max() == 255
    assert pixels(picture_url(rng.normal(size=(5, 4, 7)))).shape == (5, 4)


def test_a_real_run_has_every_section(finished_run):
    page = Page(finished_run.report.read_text(encoding="utf-8"))
    text = squeezed(page)
    for heading in (
        "Learning curves",
        "Confusion matrix",
        "Worst mistakes",
        "Scores of each class",
        "What the first layer looks for",
        "Data",
        "Model",
        "Repeat this run",
    ):
        assert heading in text
    assert finished_run.settings.command() in page.text
    assert "parameters 1,210" in text
    drawn = " ".join(group.get("data-name", "") for group in page.all("g"))
    assert "network.hidden1" in drawn


# --------------------------------------------------------------------- inside a model


@pytest.fixture(scope="module")
def small_net():
    """A convolutional net of the digits, hardly trained."""
    return cr.fit(cr.data.load(seed=0).train, epochs=1, seed=0)


def test_first_weights_are_filters_or_units_or_nothing():
    conv = nn.Sequential(nn.Standardize(), nn.Conv(3, 5, (2, 4)))
    found = first_weights(conv, (8, 8, 3))
    assert found.kind == "filter"
    np.testing.assert_array_equal(found.weights[4], conv[1].weight.data[..., 4])
    dense = first_weights(nn.mlp((2, 3, 1), (4,), 2), (2, 3, 1))
    assert (dense.kind, dense.weights.shape) == ("unit", (4, 2, 3, 1))
    assert first_weights(nn.mlp(6, (4,), 2), (6,)) is None
    assert first_weights(nn.Sequential(nn.Flatten()), (2, 3, 1)) is None


def test_activations_are_those_that_vary_most_in_some_of_the_layers(small_net):
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 1), np.uint8)
    found = activations(small_net.model, picture).layers
    assert [(a.path, a.num_channels, a.maps.shape) for a in found] == [
        ("network.stage1.activation", 32, (12, 8, 8)),
        ("network.stage2.activation", 64, (12, 4, 4)),
        ("network.last.activation", 128, (12, 4, 4)),
    ]
    seen = []
    with nn.observe(lambda module, y: seen.append((module, y))):
        small_net.outputs(picture[None])
    (y,) = [
        y for module, y in seen if module is small_net.model.network.stage1.activation
    ]
    spread = y.data[0].std(axis=(0, 1))
    assert np.sort(found[0].maps.std(axis=(1, 2))).tolist() == pytest.approx(
        np.sort(spread)[-12:].tolist()
    )
    deep = cr.fit(cr.data.load(seed=0).test, model="resnet20", epochs=0, seed=0)
    paths = [a.path for a in activations(deep.model, picture).layers]
    assert len(paths) == 8
    assert (paths[0], paths[-1]) == ("network.stem.activation", "network.block3_3.relu")


def test_layer_costs_have_all_parameters_time_and_memory_of_the_network(small_net):
    inputs = np.zeros((4, 8, 8, 1), np.uint8)
    costs = layer_costs(small_net, inputs)
    by_path = {cost.path: cost for cost in costs}
    assert sum(c.parameters for c in costs) == small_net.model.num_parameters()
    conv = by_path["stage1.conv"]
    assert (conv.output, conv.parameters) == ("8×8×32", 288)
    assert conv.connections == 8 * 8 * 288
    assert conv.output_bytes == 4 * 8 * 8 * 32
    assert by_path["standardize"].output_bytes == 4 * 64
    assert all(c.time_s > 0 for c in costs)
    deep = cr.fit(cr.data.load(seed=0).test, model="resnet20", epochs=0, seed=0)
    short = layer_costs(deep, inputs)
    assert len(short) <= 60
    (block,) = [c for c in short if c.path == "block1_1.sum.body"]
    assert (block.layer, block.output_bytes) == ("5 layers", 5 * 4 * 8 * 8 * 16)
    (addition,) = [c for c in short if c.path == "block1_1.sum"]
    assert addition.output_bytes == 4 * 8 * 8 * 16


def test_a_convolutional_runs_report_has_filters_activations_and_costs(tmp_path):
    run = tasks.train(Settings(out=str(tmp_path / "run"), epochs=1))
    assert run.settings.model == "cnn"
    page = Page(run.report.read_text(encoding="utf-8"))
    text = squeezed(page)
    assert "cnn trained on digits with adam" in text
    assert "filter 32" in text
    assert "What the layers make of a picture" in text
    assert "stage1.conv Conv(1, 32, 3, padding=1) 8×8×32 288 18,432 8.00" in text


# ------------------------------------------------------------------- restored pictures


def restored(**changes):
    picture = np.full((9, 12, 3), 200, np.uint8)
    names = ("damaged", "restored", "truth", "error")
    facts = {
        "score": "psnr",
        "history": history("psnr"),
        "results": {"task": "restore", "psnr": 31.256, "ssim": 0.9, "num_examples": 40},
        "strips": [
            Strip(kind, "31.26 dB", "<b>/a.png", dict.fromkeys(names, picture))
            for kind in ("good", "worst")
        ],
        "strips_note": "How to read them.",
        "methods": {
            "this network": {"psnr": 31.256, "ssim": 0.9},
            "non_local_means": {"psnr": 29.5, "ssim": 0.95, "num_examples": 8},
            "wiener": {"skipped": "it needs more"},
        },
        "strengths": Strengths(
            "noise gaussian: sigma",
            [10.0, 20.0],
            {"this network": [33.0, 30.0], "as damaged": [28.0, 22.0]},
            "psnr",
            20.0,
        ),
    }
    return make(**(facts | changes))


def test_restored_pictures_are_shown_beside_damage_truth_and_error(written):
    _, page = written(restored())
    text = squeezed(page)
    assert "31.26 dB PSNR on 40 test examples" in text
    images = [i["alt"] for i in page.all("img")]
    assert images.count("<b>/a.png, restored") == 2
    for word in ("good", "worst", "a.png", "How to read them."):
        assert word in text
    for _, attributes in page.tags:
        source = attributes.get("src") or "data:"
        assert source.startswith("data:")


def test_methods_are_compared_and_the_best_is_marked(written):
    html, page = written(restored())
    text = squeezed(page)
    assert "non local means on 8 pictures 29.50 dB 0.95" in text
    assert "it needs more" in text
    marked = re.findall(r'<td class="number"><strong>(.*?)</strong>', html)
    assert marked == ["31.26 dB", "0.95"]


def test_scores_over_the_strength_are_told_in_words_too(written):
    _, page = written(restored())
    assert (
        "PSNR over noise gaussian: sigma, 10 to 20: this network from 33.00 dB to "
        "30.00 dB, as damaged from 28.00 dB to 22.00 dB"
    ) in [a.get("aria-label") for a in page.all("div")]
    _, page = written(restored(strengths=None, methods={}, strips=[]))
    assert "by strength" not in page.text
    assert "classical" not in page.text
