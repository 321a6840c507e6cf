"""Why a run's network says what it says: the words, the numbers and the page."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import chainrule as cr
from chainrule import data, tasks
from chainrule.cli import main
from chainrule.errors import CheckpointError, FileError, IndexingError, OptionError
from chainrule.explanation.features import integrated_gradients
from chainrule.tasks import Settings, explain_run
from chainrule.tasks.case import case_of

VOID = {"meta", "link", "img", "br", "image"}


class Page(HTMLParser):
    """Tags in order; fails where they do not nest."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
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

    def pictures(self):
        """All pictures of the page, decoded."""
        urls = [a["src"] for tag, a in self.tags if tag == "img"]
        urls += [a["href"] for tag, a in self.tags if tag == "image"]
        coded = [url.removeprefix("data:image/png;base64,") for url in urls]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(c)))) for c in coded]


@pytest.fixture(scope="module")
def run(finished_run, tmp_path_factory):
    """A finished run that may be written into."""
    folder = tmp_path_factory.mktemp("explained") / "run"
    shutil.copytree(finished_run.folder, folder)
    return folder


@pytest.fixture(scope="module")
def cnn_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained") / "cnn"
    tasks.train(Settings(out=str(folder), model="cnn", epochs=2, seed=0))
    return folder


def test_an_example_is_told_with_its_truth_answers_and_layers(run):
    found = explain_run(run, example=4)
    model, test = tasks.load(run), data.load(seed=0).test
    picture, label = test.read(np.array([4])), test.targets[4]
    lines = str(found).splitlines()
    assert lines[0] == f"example 4 of the test set: {test.class_names[label]}"
    first = model.predict(picture[0]).classes[0]
    assert lines[1].startswith(f"  the network says {first[0]}: {100 * first[1]:.1f} %")
    summary = model.model.summary(test.example_shape)
    paths = re.findall(r"^(\S+)  +\w+\(.*\d$", summary, re.MULTILINE)
    assert [row.path for row in found.inside.layers] == paths
    for path in paths:
        assert any(line.startswith(path) for line in lines)
    assert f"pictures: {run / 'explanations' / 'test-4.html'}" in lines[-1]
    assert found.page.is_file()


def test_the_loss_and_its_gradients_are_those_of_training(run):
    found = explain_run(run, example=7)
    model, test = tasks.load(run), data.load(seed=0).test
    x, label = test.read(np.array([7])).astype(np.float32), test.targets[[7]]
    slope = cr.grad(lambda x: model.task.loss(model.model(x), cr.Tensor(label)))(x)
    mean = model.model.state()["standardize.std"]
    standardized = found.inside.at("standardize").loss_gradient
    np.testing.assert_allclose(standardized, slope.data[0] * mean, rtol=1e-4, atol=1e-9)


def test_a_layer_is_told_by_its_path_with_network_and_without(run):
    long = explain_run(run, layer="network.activation1", example=1)
    short = explain_run(run, layer="activation1", example=1)
    assert str(long) == str(short)
    text = str(short)
    assert "network.activation1: ReLU(), 16" in text
    zero = 100 * (short.inside.at("network.activation1").output == 0).mean()
    assert f"{zero:.0f} % zero, gradient" in text
    assert short.page.name == "test-1-activation1.html"


def test_the_units_that_matter_are_weight_times_value_for_the_class(run):
    found = explain_run(run, layer="activation1", example=3)
    weight = tasks.load(run).model.network.output.weight.data
    own = weight[:, found.case.output[0]] * found.layer.output
    order = np.argsort(-np.abs(own), kind="stable")
    assert found.layer.units[:6] == order[:6].tolist()
    assert f"unit {order[0]}: gradient × value {own[order[0]]:+.3g}" in str(found)


def test_the_largest_entry_of_the_gradient_is_written_out(run):
    found = explain_run(run, layer="activation1", example=3)
    place = found.layer.largest_gradient
    value = float(found.layer.loss_gradient[place])
    first, *rest = found.derivation.splitlines()
    assert first.startswith(f"∂loss/∂activation₁[0,{place[0]}] = the sum over 10 terms")
    sums = [line for line in rest if line.strip().startswith("sum:")]
    assert float(sums[0].rsplit("= ", 1)[1]) == pytest.approx(value, rel=1e-4)
    assert "output.weight[" in found.derivation


def test_attributions_are_those_of_the_predicted_class(run):
    found = explain_run(run, example=2)
    assert [a.method for a in found.attributions] == [
        "SmoothGrad of 16 copies", "integrated gradients", "occlusion, 2×2"
    ]  # fmt: skip
    again = integrated_gradients(
        tasks.load(run).model, found.case.inputs, output=found.case.output
    )
    np.testing.assert_array_equal(found.attributions[1].values, again.values)
    assert found.attributions[1].target.startswith("class ")


def test_the_page_stands_alone_and_shows_the_pictures(cnn_run, tmp_path):
    found = explain_run(cnn_run, layer="stage2", example=0, out=tmp_path / "page.html")
    assert found.page == tmp_path / "page.html"
    text = found.page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "<script" not in text
    page = Page(found.page)
    whole, *others = page.pictures()
    np.testing.assert_array_equal(whole, found.case.picture[..., 0])
    methods = [a.method for a in found.attributions]
    assert methods[-1] == "Grad-CAM of network.stage2"
    assert methods[-2] == "class activation map of network.last.activation"
    maps = [p for p in others if p.ndim == 3]
    assert len(maps) == len(methods) == 5
    np.testing.assert_array_equal(maps[0], found.attributions[0].coloured())
    # For each of six units: here, four exciting examples, one made for it.
    assert len(others) - len(maps) == 6 * 6
    squeezed = re.sub(r"\s+", " ", page.text)
    assert "What class " in squeezed
    assert f"unit {found.layer.units[0]}" in squeezed
    assert found.derivation.splitlines()[0] in page.text


def test_made_pictures_stay_in_the_range_of_pixels(cnn_run):
    found = explain_run(cnn_run, layer="last", example=0)
    made = found.visualised
    assert made.pictures.min() >= 0
    assert made.pictures.max() <= 255
    assert made.units == tuple(found.layer.units[:6])
    assert [e.unit for e in found.exciting] == list(made.units)
    assert made.best == tuple(e.values[0] for e in found.exciting)


def test_the_same_call_says_the_same(cnn_run):
    both = [str(explain_run(cnn_run, layer="stage1", example=5)) for _ in range(2)]
    assert both[0] == both[1]


def test_other_parts_of_the_data_are_explained_too(run):
    found = explain_run(run, split="train", example=0)
    assert str(found).startswith("example 0 of the train set: ")
    assert found.page.name == "train-0.html"


def test_the_command_line_says_the_same_and_names_what_is_not_there(run, capsys):
    words = ["explain", str(run), "--layer", "hidden1", "--example", "2"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said.strip() == str(explain_run(run, layer="hidden1", example=2)).strip()
    assert main(["explain", str(run), "--layer", "hiden1"]) == 2
    assert "did you mean 'hidden1'?" in capsys.readouterr().err
    assert main(["explain", str(run), "--example", "359"]) == 2
    assert "expected: 0 to 358" in capsys.readouterr().err


# ------------------------------------------------------------------------ other tasks


def test_numbers_and_labels_of_rows_are_explained(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 4)).astype(np.float32)
    both = {
        "regress": np.stack([2 * x[:, 0] - x[:, 1], 100 * x[:, 2] ** 2], axis=1),
        "label": (x[:, :2] > 0).astype(np.int64),
    }
    for task, targets in both.items():
        np.savez(tmp_path / f"{task}.npz", images=x, labels=targets)
        folder = tmp_path / task
        tasks.train(
            Settings(
                task=task, data=str(tmp_path / f"{task}.npz"), out=str(folder),
                epochs=2, hidden=(8,), seed=0,
            )
        )  # fmt: skip
        found = explain_run(folder, layer="activation1", example=3)
        assert [a.values.shape for a in found.attributions] == [(4,), (4,)]
        assert "most of it comes from number" in str(found)
        Page(found.page)
        if task == "regress":
            model, test = (
                tasks.load(folder),
                data.load(str(tmp_path / "regress.npz"), task="regress", seed=0).test,
            )
            wrong = np.abs(
                model.outputs(test.read(np.arange(len(test)))) - test.targets
            )
            worst = (wrong / np.array(model.task.scale)).argmax(axis=1)
            assert (worst != wrong.argmax(axis=1)).any(), "the scale decides for some"
            for i, number in enumerate(worst.tolist()):
                case = case_of(model, test, i)
                assert (case.output, case.target) == ((number,), f"value {number + 1}")


@pytest.mark.parametrize("corruption", ["noise:25", "mask:box:3"])
def test_a_restored_picture_is_explained_at_its_largest_error(tmp_path, corruption):
    some = data.load(seed=0).train.subset(np.arange(60))
    np.savez(tmp_path / "d.npz", images=some.read(np.arange(60)), labels=some.targets)
    tasks.train(
        Settings(
            task="restore", corruption=(corruption,), out=str(tmp_path / "run"),
            data=str(tmp_path / "d.npz"),
            epochs=1, depth=3 if "noise" in corruption else 1, seed=0,
        )
    )  # fmt: skip
    layer = "body.relu" if "noise" in corruption else None
    found = explain_run(tmp_path / "run", example=3, layer=layer)
    case, model = found.case, tasks.load(tmp_path / "run")
    truth = case.targets[0, ..., :1]
    wrong = np.abs(model.outputs(case.inputs[None])[0] - truth)
    assert wrong[case.output] == wrong.max()
    assert found.inside.index == case.output
    score = model.outputs(case.inputs[None])[(0, *case.output)]
    assert all(a.score == pytest.approx(score) for a in found.attributions)
    row, column, _ = case.output
    assert case.target == f"grey at row {row}, column {column}"
    assert "where its error is largest" in str(found)
    assert float(found.inside.loss.data) > 0
    Page(found.page)


def test_a_segmented_picture_is_explained_at_its_worst_pixel(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for i in range(12):
        picture = rng.integers(0, 90, size=(16, 18, 3)).astype(np.uint8)
        labels = np.zeros((16, 18), np.uint8)
        row, column = rng.integers(0, 10, 2)
        picture[row : row + 6, column : column + 6, 1] = 240
        labels[row : row + 6, column : column + 6] = 1
        Image.fromarray(picture).save(tmp_path / f"data/images/{i}.png")
        Image.fromarray(labels).save(tmp_path / f"data/labels/{i}.png")
    tasks.train(
        Settings(
            task="segment", data=str(tmp_path / "data"), out=str(tmp_path / "run"),
            epochs=1, depth=1, width=4, seed=0,
        )
    )  # fmt: skip
    found = explain_run(tmp_path / "run", example=0, layer="output")
    case, model = found.case, tasks.load(tmp_path / "run")
    scores = model.outputs(case.inputs[None])[0].astype(np.float64)
    shares = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    own = np.take_along_axis(shares, case.targets[0, ..., None].astype(int), axis=-1)
    row, column, said = case.output
    assert own[row, column, 0] == own.min()
    assert said == scores[row, column].argmax()
    assert case.picture.shape == (16, 18, 3)
    assert f"at row {row}, column {column}" in str(found)
    Page(found.page)


# --------------------------------------------------------------------------- mistakes


def test_a_layer_that_is_not_there_is_an_error_with_those_that_are(run):
    with pytest.raises(OptionError, match="no layer 'hiden1'") as caught:
        explain_run(run, layer="hiden1")
    assert "network.hidden1" in caught.value.expected
    assert caught.value.hint == "did you mean 'hidden1'?"


@pytest.mark.parametrize("example", [-1, 359, 10**9])
def test_an_example_that_is_not_there_is_an_error(run, example):
    with pytest.raises(IndexingError, match="no such example") as caught:
        explain_run(run, example=example)
    assert caught.value.expected == "0 to 358"


def test_a_part_or_a_run_that_is_not_there_is_an_error(run, tmp_path):
    with pytest.raises(OptionError, match="unknown split 'tset'"):
        explain_run(run, split="tset")
    with pytest.raises(CheckpointError, match="is not a run"):
        explain_run(tmp_path)


def test_a_page_that_cannot_be_written_is_an_error(run, tmp_path):
    with pytest.raises(FileError, match="cannot write"):
        explain_run(run, out=tmp_path / "missing" / "page.html")
    (run / "explanations").rename(run / "moved")
    (run / "explanations").write_text("in the way")
    with pytest.raises(FileError, match="cannot make the folder"):
        explain_run(run)
