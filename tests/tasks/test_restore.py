"""Restoring pictures: trained, measured, applied to files, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import chainrule as cr
from chainrule import nn, tasks
from chainrule.data.corruptions import Damaged, parse_corruptions
from chainrule.errors import DataError, OptionError, ShapeError
from chainrule.restoration import quality
from chainrule.tasks import Settings
from chainrule.tasks.comparison import other_strengths
from chainrule.tasks.first_guess import first_guess
from chainrule.tasks.named import task_class
from chainrule.tasks.picture_report import chosen_examples

BOX = ("mask:box:4",)


def photographs(count=5, channels=3, sizes=((56, 64), (70, 61), (64, 90))):
    """Smooth pictures with edges, of several sizes."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        rough = rng.uniform(0, 255, (*sizes[i % len(sizes)], channels))
        smooth = ndimage.gaussian_filter(rough, (3, 3, 0))
        spread = (smooth - smooth.min()) / (smooth.max() - smooth.min())
        found.append(np.where(spread > 0.6, 230, 255 * spread).astype(np.uint8))
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of photographs."""
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    folder.mkdir()
    for i, picture in enumerate(photographs()):
        Image.fromarray(picture).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory):
    """A finished run that fills the middle of digits."""
    folder = tmp_path_factory.mktemp("runs") / "box"
    return tasks.train(
        Settings(
            task="restore", corruption=BOX, model="mlp", hidden=(64,), epochs=20,
            out=str(folder),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def denoising(tmp_path_factory, photos):
    """A finished run that denoises photographs of several sizes."""
    folder = tmp_path_factory.mktemp("runs") / "noise"
    return tasks.train(
        Settings(
            data=str(photos), task="restore", corruption=("noise:gaussian:25",),
            width=8, depth=3, patch=24, batch_size=16, epochs=60, lr=0.01, test=0.4,
            validation=0.34, out=str(folder),
        )
    )  # fmt: skip


# ---------------------------------------------------------------------------- training


def test_a_dense_net_fills_a_hole_better_than_the_classical_methods(inpainting):
    results = inpainting.results
    assert results["num_examples"] == 359
    assert set(results["baselines"]) == {"mean_fill", "biharmonic"}
    best = max(b["psnr_hole"] for b in results["baselines"].values())
    assert results["psnr_hole"] > best + 2
    assert results["psnr"] > results["damaged"]["psnr"] + 5
    # A quarter of the pixels has all of the error: 10·log₁₀ 4 decibels.
    assert results["psnr"] - results["psnr_hole"] == pytest.approx(6.0206, abs=1e-3)
    settings = tasks.read_settings(inpainting.folder)
    assert settings.corruption == BOX
    assert (settings.loss_on, settings.patch) == ("hole", 0)


def test_evaluating_a_run_gives_the_scores_that_training_reported(inpainting):
    scores = tasks.evaluate_run(inpainting.folder)
    assert scores == {k: inpainting.results[k] for k in scores}
    json.dumps(scores)
    on_validation = tasks.evaluate_run(inpainting.folder, split="validation")
    best = [e for e in inpainting.history if e["is_best"]][-1]
    assert on_validation["psnr"] == pytest.approx(best["validation"]["psnr"])


def test_scores_are_those_of_the_pooled_error(inpainting):
    model = tasks.load(inpainting.folder)
    test = cr.data.load("digits", task="restore").test
    truth = test.read(np.arange(len(test))).astype(np.float32)
    hole = np.zeros((8, 8, 1), bool)
    hole[2:6, 2:6] = True
    restored = np.stack([model.restore(np.where(hole, 0, x), hole) for x in truth])
    scores = inpainting.results
    assert quality.psnr(truth, restored) == pytest.approx(scores["psnr"], abs=1e-3)
    assert quality.ssim(truth, restored) == pytest.approx(scores["ssim"], abs=1e-4)
    inside = np.broadcast_to(hole, truth.shape)
    assert quality.psnr(truth, restored, where=inside) == pytest.approx(
        scores["psnr_hole"], abs=1e-3
    )


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path):
    settings = Settings(
        task="restore", corruption=("mask:boxes:4", "noise:gaussian:9"), hidden=(8,),
        schedule="constant", epochs=4,
    )  # fmt: skip
    whole = tasks.train(settings.replace(out=str(tmp_path / "whole")))
    short = tasks.train(settings.replace(out=str(tmp_path / "short"), epochs=2))
    longer = tasks.resume(short.folder, epochs=4)
    first, second = (tasks.load(r.folder).model.state() for r in (whole, longer))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert longer.results["psnr"] == whole.results["psnr"]


def test_photographs_of_many_sizes_are_learned_from_patches(denoising):
    results = denoising.results
    assert results["num_examples"] == 2
    assert results["psnr"] > results["damaged"]["psnr"] + 3
    assert "psnr_hole" not in results
    assert set(results["baselines"]) >= {"non_local_means", "wiener"}
    assert tasks.evaluate_run(denoising.folder)["psnr"] == results["psnr"]


@pytest.mark.parametrize("model", sorted(nn.IMAGE_MODELS))
@pytest.mark.parametrize(
    "corruption", [("mask:pixels:0.3",), ("blur:gaussian:1", "noise:gaussian:5")]
)
def test_every_model_trains_and_restores_a_picture_of_any_size(
    model, corruption, tmp_path
):
    images = np.stack(photographs(40, 1, sizes=((24, 24),)))
    small = {
        "mlp": {"hidden": (16,)},
        "dncnn": {"width": 4, "depth": 2},
        "unet": {"width": 4, "depth": 1},
    }.get(model, {})
    restorer = cr.fit(
        images, task="restore", corruption=corruption, model=model, epochs=1, **small
    )
    restorer.save(tmp_path / "model.safetensors")
    again = cr.load(tmp_path / "model.safetensors")
    (picture,) = photographs(1, 1, sizes=((41, 30),))
    mask = None
    if corruption[0].startswith("mask"):
        mask = np.random.default_rng(0).random((41, 30)) < 0.3
    restored = again.restore(picture, mask)
    assert restored.shape == picture.shape
    assert 0 <= restored.min() <= restored.max() <= 255
    np.testing.assert_array_equal(restored, restorer.restore(picture, mask))
    if mask is not None:
        np.testing.assert_array_equal(restored[~mask], picture[~mask])
        assert (restored[mask] != picture[mask]).any()


@pytest.mark.parametrize("loss", task_class("restore").losses)
def test_every_loss_brings_pictures_nearer(loss):
    digits = cr.data.load("digits", task="restore").train
    how = {"task": "restore", "corruption": ("noise:gaussian:60",), "hidden": (64,)}
    before = cr.fit(digits, epochs=0, loss=loss, **how)
    after = cr.fit(digits, epochs=8, loss=loss, **how)
    first, last = (m.validation_scores(m.examples_of(digits)) for m in (before, after))
    assert last["loss"] < 0.8 * first["loss"]
    assert last["psnr"] > first["psnr"]


@pytest.mark.parametrize("loss", ["squared", "absolute"])
def test_a_loss_on_the_hole_is_the_mean_over_what_is_lost(loss):
    task = task_class("restore")(("grey",), loss, BOX, "hole")
    rng = np.random.default_rng(0)
    truth, outputs = rng.uniform(0, 255, (2, 3, 8, 8, 1))
    lost = rng.random((3, 8, 8, 1)) < 0.4
    targets = np.concatenate([truth, lost], axis=-1)
    difference = np.abs(truth - outputs)[lost] / 255
    expected = (difference**2 if loss == "squared" else difference).mean()
    found = task.loss(cr.Tensor(outputs), cr.Tensor(targets)).item()
    assert found == pytest.approx(expected)


def test_the_loss_of_all_pixels_is_the_psnr_in_other_words():
    task = task_class("restore")(("grey",), "squared", ("noise:gaussian:25",))
    rng = np.random.default_rng(0)
    truth, outputs = rng.uniform(0, 255, (2, 3, 8, 8, 1))
    loss = task.loss(cr.Tensor(outputs), cr.Tensor(truth)).item()
    assert quality.psnr(truth, outputs) == pytest.approx(-10 * np.log10(loss))


# ---------------------------------------------------------------- pictures of any size


def test_a_picture_in_tiles_is_the_picture_at_once(denoising):
    model = tasks.load(denoising.folder)
    (picture,) = photographs(1, sizes=((150, 201),))
    noisy = parse_corruptions(["noise:gaussian:25"])(
        picture[None].astype(np.float32), cr.data.Keys(0, 0, np.arange(1))
    )
    whole = model.network_outputs(noisy)
    tiled = model.network_outputs(noisy, tile=48)
    np.testing.assert_allclose(tiled, whole, atol=0.01)


# -------------------------------------------------------------- what networks are shown


@pytest.mark.parametrize(
    ("corruption", "channels", "least"),
    [("mosaic:bayer", 6, 24), ("exposure:1.5", 6, 20), ("raw:400", 6, 20)],
)
def test_a_cameras_measurements_begin_as_a_picture(corruption, channels, least):
    truth = np.stack(photographs(2, sizes=((40, 40),))).astype(np.float32)
    chain = parse_corruptions([corruption])
    damaged = chain(truth, cr.data.Keys(0, 0, np.arange(2)))
    shown = first_guess(damaged, chain)
    assert shown.shape == (2, 40, 40, channels)
    assert shown.dtype == np.float32
    guess, further = shown[..., :3], shown[..., 3:]
    assert quality.psnr(truth, guess) > least
    assert quality.psnr(truth, guess) > quality.psnr(truth, damaged.pictures) + 2
    assert 0 <= further.min() < further.max() <= 1
    alone = first_guess(damaged, chain, shows_mask=False)
    np.testing.assert_array_equal(alone, guess)


def test_a_hole_is_shown_as_it_is_with_its_mask():
    chain = parse_corruptions(["mask:box:4", "noise:gaussian:3"])
    truth = np.full((2, 8, 8, 1), 99, np.float32)
    damaged = chain(truth, cr.data.Keys(0, 0, np.arange(2)))
    shown = first_guess(damaged, chain)
    np.testing.assert_array_equal(shown[..., :1], damaged.pictures)
    np.testing.assert_array_equal(shown[..., 1:], damaged.lost)


# ------------------------------------------------------------------------------- files


@pytest.fixture
def damaged_files(tmp_path):
    """A digit without its middle, and the mask, as files."""
    picture = cr.data.load("digits").test.picture(3)
    hole = np.zeros((8, 8), np.uint8)
    hole[2:6, 2:6] = 255
    damaged = np.where(hole > 0, 0, picture[..., 0]).astype(np.uint8)
    Image.fromarray(damaged).save(tmp_path / "digit.png")
    Image.fromarray(hole).save(tmp_path / "mask.png")
    return tmp_path / "digit.png", tmp_path / "mask.png"


def test_a_file_is_restored_beside_it_and_keeps_what_was_there(
    inpainting, damaged_files
):
    model = tasks.load(inpainting.folder)
    file, mask = damaged_files
    (done,) = model.restore_files([file], mask=mask)
    assert done.restored == str(file.with_name("digit-restored.png"))
    before, after = (np.asarray(Image.open(f)) for f in (file, done.restored))
    white = np.asarray(Image.open(mask)) > 0
    np.testing.assert_array_equal(before[~white], after[~white])
    assert after[white].max() > 100
    # The hole is where it always was: no mask is needed to say so.
    (same,) = model.restore_files([file], folder=mask.parent / "new" / "folder")
    np.testing.assert_array_equal(np.asarray(Image.open(same.restored)), after)


def test_a_folder_is_restored_once_however_often(inpainting, damaged_files):
    model = tasks.load(inpainting.folder)
    file, mask = damaged_files
    mask.unlink()
    for _ in range(2):
        found = [d.file for d in model.restore_files([file.parent])]
        assert found == [str(file)]


def test_colour_and_depth_of_a_file_are_kept(inpainting, denoising, tmp_path):
    (colour,) = photographs(1, sizes=((30, 40),))
    Image.fromarray(colour).save(tmp_path / "colour.png")
    deep = colour[..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    clear = np.concatenate([colour, colour[..., :1]], axis=-1)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    mask = np.zeros((30, 40), np.uint8)
    mask[4:9, 5:9] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    names = [tmp_path / f"{n}.png" for n in ("colour", "deep", "clear")]
    for run in (inpainting, denoising):
        model = tasks.load(run.folder)
        how = {"mask": tmp_path / "mask.png"} if run is inpainting else {}
        one, two, three = (
            np.asarray(Image.open(d.restored))
            for d in model.restore_files(names, **how)
        )
        assert (one.shape, one.dtype) == ((30, 40, 3), np.uint8)
        assert (two.shape, two.dtype) == ((30, 40), np.uint16)
        assert len(np.unique(two % 257)) > 1 or run is inpainting
        np.testing.assert_array_equal(three[..., 3], clear[..., 3])


def test_a_grey_mosaic_from_a_sensor_becomes_a_picture_in_colour(tmp_path):
    images = np.stack(photographs(20, sizes=((16, 16),)))
    model = cr.fit(
        images, task="restore", corruption=("mosaic:bayer",), width=8, depth=3, epochs=1
    )
    (picture,) = photographs(1, sizes=((32, 30),))
    chain = parse_corruptions(["mosaic:bayer"])
    seen = chain(picture[None].astype(np.float32), cr.data.Keys(0, 0, np.arange(1)))
    Image.fromarray(seen.pictures[0].sum(axis=-1).astype(np.uint8)).save(
        tmp_path / "sensor.png"
    )
    (done,) = model.restore_files([tmp_path / "sensor.png"])
    colours = np.asarray(Image.open(done.restored))
    np.testing.assert_array_equal(
        colours[~seen.lost[0]], picture[~seen.lost[0]], "what was measured stays"
    )
    assert colours[seen.lost[0]].any()


def test_a_mask_of_another_size_is_refused(inpainting, damaged_files):
    file, mask = damaged_files
    Image.new("L", (9, 8), 255).save(mask)
    model = tasks.load(inpainting.folder)
    with pytest.raises(DataError) as error:
        list(model.restore_files([file], mask=mask))
    assert str(error.value) == (
        f"{mask}: the mask has another size than the picture\n"
        "  got:      9 × 8 pixels\n"
        "  expected: 8 × 8 pixels\n"
        "  try:      a mask is as large as the picture, and white where to restore it"
    )
    with pytest.raises(ShapeError) as error:
        model.restore(np.zeros((8, 8)), np.zeros((8, 9)))
    assert str(error.value) == (
        "restore: the mask has another size than the picture\n"
        "  got:      a mask of 9×8, a picture of 8×8\n"
        "  expected: 8×8 pixels, white where to restore"
    )


def test_where_holes_vary_a_mask_has_to_come_along():
    digits = cr.data.load("digits").train
    model = cr.fit(
        digits, task="restore", corruption=("mask:pixels:0.5",), hidden=(8,), epochs=0
    )
    with pytest.raises(DataError) as error:
        model.restore(np.zeros((8, 8)))
    assert str(error.value) == (
        "restore: nothing says what is lost\n"
        "  got:      a picture without a mask, a model for mask:pixels:0.5\n"
        "  expected: a mask of the picture's size, white where to restore\n"
        "  try:      --mask FILE"
    )
    for corruption, is_fixed in (("mask:half", False), ("mask:box:3", True)):
        model = cr.fit(
            digits, task="restore", corruption=(corruption,), hidden=(8,), epochs=0
        )
        assert (model.fixed_mask((8, 8, 1)) is not None) == is_fixed
    with pytest.raises(ShapeError, match="not a picture of the model's channels"):
        model.restore(np.zeros((8, 8, 3)))


def test_a_mask_means_nothing_where_nothing_is_lost(denoising):
    model = tasks.load(denoising.folder)
    with pytest.raises(OptionError, match="a mask means nothing to this model"):
        model.restore(np.zeros((8, 8, 3)), np.zeros((8, 8)))


# ------------------------------------------------------------------------- comparisons


def test_slow_methods_restore_some_pictures_and_say_so(inpainting, monkeypatch):
    model = tasks.load(inpainting.folder)
    digits = cr.data.load("digits").test
    monkeypatch.setattr("chainrule.tasks.comparison._MOST_VALUES", 64 * 100)
    scores = model.evaluate(digits)
    assert scores["num_examples"] == 359
    some = scores["baselines"]["biharmonic"]
    assert some["num_examples"] == 90
    chosen = digits.subset(np.arange(0, 359, 4))
    alone = model.evaluate(chosen)
    assert some["network"]["psnr"] == pytest.approx(alone["psnr"])
    assert some["psnr"] == pytest.approx(alone["baselines"]["biharmonic"]["psnr"])


def test_without_scikit_image_the_rest_is_compared(denoising, photos, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage", None)
    found = tasks.evaluate_run(denoising.folder)["baselines"]
    assert found["wiener"]["num_examples"] == 2
    assert "chainrule[vision]" in found["non_local_means"]["skipped"]


def test_strengths_vary_what_has_a_number():
    option, own, versions = other_strengths(parse_corruptions(["mask:pixels:0.6"]))
    assert (option, own) == ("mask pixels: share", 0.6)
    values = [value for value, _ in versions]
    assert values == pytest.approx([0.15, 0.3, 0.45, 0.6, 0.75, 0.9])
    assert other_strengths(parse_corruptions(["mask:half"])) is None
    chain = parse_corruptions(["mask:half", "noise:gaussian:8"])
    _, _, versions = other_strengths(chain)
    assert str(versions[0][1]) == "mask:half noise:gaussian:2"


def test_examples_are_good_median_and_bad_and_none_twice():
    merits = np.random.default_rng(0).permutation(100).astype(float)
    chosen = {k: sorted(merits[v]) for k, v in chosen_examples(merits).items()}
    assert chosen == {"good": [90, 91, 92], "median": [49, 50, 51], "worst": [0, 1, 2]}
    few = chosen_examples([3.0, 1.0, 2.0, 5.0])
    assert sorted(i for kind in few.values() for i in kind) == [0, 1, 2, 3]


def test_the_report_shows_strips_methods_and_strengths(inpainting, denoising):
    for run, words in (
        (inpainting, ("PSNR in the hole", "mask box: side", "biharmonic")),
        (denoising, ("non local means", "noise gaussian: sigma", "dncnn")),
    ):
        text = run.report.read_text(encoding="utf-8")
        for word in (*words, "this network", "as damaged", "good", "median", "worst"):
            assert word in text
        count = min(9, run.results["num_examples"])
        for name in ("damaged", "restored", "truth", "error"):
            assert text.count(f"<figcaption>{name}</figcaption>") == count


# ------------------------------------------------------------------ what does not work


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            "no corruption is named\n"
            "  got:      nothing\n"
            "  expected: one or more, such as mask:box:10 or noise:gaussian:25",
        ),
        (
            {"corruption": ("noise:gaussian:25",), "loss_on": "hole"},
            "option loss_on: nothing is lost\n"
            "  got:      loss_on hole, corruption noise:gaussian:25\n"
            "  expected: loss_on all, or a corruption that loses values, such as "
            "mask:box:10",
        ),
        (
            {"corruption": BOX, "loss": "ssim", "loss_on": "hole"},
            "option loss_on: SSIM compares neighbourhoods, not single values\n"
            "  got:      loss_on hole, loss ssim\n"
            "  expected: loss_on all, or loss squared or absolute",
        ),
        (
            {"corruption": BOX, "mixup": 0.2},
            "option mixup: it means nothing to the task restore\n"
            "  got:      mixup 0.2, task restore\n"
            "  expected: no mixup, or one of the tasks classify, label, regress",
        ),
        (
            {"corruption": BOX, "model": "cnn"},
            "unknown model 'cnn'\n"
            "  got:      'cnn'\n"
            "  expected: one of dncnn, encoder_decoder, mlp, unet\n"
            "  try:      did you mean 'dncnn'?",
        ),
        (
            {"corruption": BOX, "loss": "softmax"},
            "unknown loss for task restore 'softmax'\n"
            "  got:      'softmax'\n"
            "  expected: one of absolute, squared, ssim",
        ),
        (
            {"corruption": BOX, "model": "dncnn", "hidden": (5,)},
            "option hidden: dncnn has none\n"
            "  got:      hidden 5, model dncnn\n"
            "  expected: with hidden, one of the models mlp",
        ),
        (
            {"corruption": ("mask:box:9",)},
            "mask:box:9: the square leaves nothing of the picture\n"
            "  got:      a picture of 8×8\n"
            "  expected: sides of more than 9 pixels\n"
            "  try:      mask:box:4",
        ),
    ],
)
def test_options_that_do_not_fit_are_explained(options, message, tmp_path):
    settings = Settings(task="restore", out=str(tmp_path / "run"), **options)
    with pytest.raises((OptionError, ShapeError)) as error:
        tasks.train(settings)
    assert str(error.value) == message
    assert not (tmp_path / "run").exists()


def test_a_corruption_means_nothing_to_other_tasks():
    with pytest.raises(OptionError, match="it means nothing to the task classify"):
        cr.fit(cr.data.load().train, corruption=BOX, epochs=0)


def test_only_levels_from_0_to_255_are_restored():
    with pytest.raises(DataError) as error:
        cr.fit(np.zeros((9, 8, 8)), task="restore", corruption=BOX)
    assert str(error.value) == (
        "arrays: no pictures of levels from 0 to 255\n"
        "  got:      examples of shape (8, 8, 1) and type float32\n"
        "  expected: uint8 pictures (h, w, c)\n"
        "  try:      (255 * x).astype('uint8')"
    )


def test_whole_pictures_of_several_sizes_make_no_minibatch(photos, tmp_path):
    settings = Settings(
        data=str(photos), task="restore", corruption=("noise",), patch=0,
        out=str(tmp_path / "run"),
    )  # fmt: skip
    with pytest.raises(OptionError, match="whole pictures of several sizes"):
        tasks.train(settings)


def test_damaged_is_what_a_restorer_takes(inpainting):
    model = tasks.load(inpainting.folder)
    digits = cr.data.load("digits").test
    truth, damaged = model.examples_of(digits).damaged(range(5))
    assert isinstance(damaged, Damaged)
    found = model.restored(damaged)
    assert quality.psnr(truth, found) > quality.psnr(truth, damaged.pictures) + 5
