"""Why a run's network says what it says of one example: in words and on a page."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import data, nn
from chainrule.core.graph import Tensor, as_tensor
from chainrule.errors import FileError, OptionError, ShapeError, nearest
from chainrule.explanation.features import (
    Attribution,
    Exciting,
    Inside,
    LayerState,
    Visualised,
    answers,
    class_activation_map,
    integrated_gradients,
    look_inside,
    most_exciting,
    occlusion,
    saliency,
    visualise,
)
from chainrule.tasks.case import Case, case_of, inputs_of
from chainrule.tasks.job import load_splits
from chainrule.tasks.named import load
from chainrule.tasks.run import SPLITS, read_settings
from chainrule.tasks.trained import TrainedModel

__all__ = ["RunExplanation", "explain_run"]

Array = np.ndarray[Any, Any]

_FOLDER = "explanations"
_COMPARED = 1000  # examples that are shown to the units of a layer
_COMPARED_PICTURES = 64  # where pictures are put out, which are larger
_NUM_UNITS = 6
_NUM_EXCITING = 4
_SAMPLES = 16


@dataclass(frozen=True)
class RunExplanation:
    """What was found out about one example; printing it says all of it in words.

    ``layer`` and what follows it are empty where no layer was asked for.
    """

    run: Path
    split: str
    example: int
    case: Case
    inside: Inside
    attributions: tuple[Attribution, ...]
    layer: LayerState | None = None
    exciting: tuple[Exciting, ...] = ()
    visualised: Visualised | None = None
    derivation: str = ""
    """∂loss/∂output of the layer, its largest entry written out."""
    page: Path = Path()

    def __str__(self) -> str:
        case = self.case
        told = [f"example {self.example} of the {self.split} set: {case.truth}"]
        if case.source:
            told.append(f"  from {case.source}")
        told += [f"  the network says {case.answers[0]}"]
        told += [f"  {' ' * 16} {line}" for line in case.answers[1:]]
        told += ["", *(str(self.inside).splitlines() if self.layer is None else ())]
        if self.layer is not None:
            told += self._of_layer(self.layer)
        told += ["", f"what {case.target} rests on"]
        for found in self.attributions:
            told += [f"  {line}" for line in str(found).splitlines()]
        return "\n".join([*told, "", f"pictures: {self.page}"])

    def _of_layer(self, layer: LayerState) -> list[str]:
        shape = "×".join(map(str, layer.output.shape))
        told = [f"{layer.path}: {layer.layer}, {shape}", f"  {layer.told()}"]
        told.append(f"  units that matter most for {self.case.target}")
        told += [f"    {line}" for line in self.units_told()]
        if self.derivation:
            told += ["  the loss by the entry that moves it most"]
            told += [f"    {line}" for line in self.derivation.splitlines()]
        return told

    def units_told(self) -> list[str]:
        """The units that matter most, what each contributes and what it likes."""
        if self.layer is None:
            return []
        lines = []
        for i, unit in enumerate(self.layer.units[:_NUM_UNITS]):
            share = self.layer.contributions[unit]
            side = "for" if share > 0 else "against" if share < 0 else "of no weight"
            line = f"unit {unit}: gradient × value {share:+.3g}, {side}"
            if self.exciting and self.visualised:
                most = self.exciting[i]
                name = f" ({most.names[0]})" if most.names else ""
                line += f"; most excited by example {most.indices[0]}{name} with "
                line += f"{most.values[0]:.3g}, by one made for it with "
                line += f"{self.visualised.values[i]:.3g}"
            lines.append(line)
        return lines


def explain_run(
    run: str | os.PathLike[str],
    *,
    layer: str | None = None,
    example: int = 0,
    split: str = "test",
    out: str | os.PathLike[str] | None = None,
) -> RunExplanation:
    """Explain what a run's network says of one example, and what a layer does for it.

    A page with pictures is written into the run's folder.

    Args:
        run: the folder of a run.
        layer: a path as the summary prints it, with ``network.`` or without; the list
            of all layers unless given.
        example: the number of the example in its part of the data, from 0.
        split: "test", "validation" or "train".
        out: the file of the page instead.

    Raises:
        CheckpointError: for a folder that is no run, or one without a model.
        OptionError: for a part or a layer that is not there, with those that are.
        IndexingError: for an example that is not there.
        FileError: where the page cannot be written.
    """
    if split not in SPLITS:
        raise OptionError.unknown("split", split, SPLITS)
    folder = Path(run)
    settings = read_settings(folder)
    model: TrainedModel = load(folder)
    path = None if layer is None else full_path(model, layer)
    dataset = getattr(load_splits(settings), split)
    case = case_of(model, dataset, example)
    targets = as_tensor(case.targets)
    inside = look_inside(
        model.model,
        case.inputs,
        lambda y: model.task.loss(y, targets),
        output=case.output,
        layer=path,
    )
    inside = replace(inside, target=case.target)
    name = f"{split}-{example}" + (f"-{path.removeprefix('network.')}" if path else "")
    page = Path(out) if out is not None else folder / _FOLDER / f"{name}.html"
    found = RunExplanation(
        run=folder,
        split=split,
        example=int(example),
        case=case,
        inside=inside,
        attributions=attributions(model, case, path),
        page=page,
    )
    if path is not None:
        found = _with_layer(found, model, inputs_of(model, dataset, _most(model)), path)
    if out is None:
        _make_folder(page.parent)
    # It draws, which takes a second to import.
    from chainrule.tasks.explanation_page import write_page

    write_page(page, found)
    return found


def full_path(model: TrainedModel, layer: str) -> str:
    """The path of a layer, which may leave ``network.`` out.

    Raises OptionError for one that is not there, with those that are.
    """
    paths = [path for path, _ in model.model.named_modules() if path]
    for path in (layer, f"network.{layer}"):
        if path in paths:
            return path
    short = [path.removeprefix("network.") for path in paths]
    near = nearest(layer, [*paths, *short])
    raise OptionError(
        f"the run's network has no layer {layer!r}",
        got=repr(layer),
        expected="one of " + ", ".join(paths),
        hint=f"did you mean {near!r}?" if near else None,
    )


def attributions(
    model: TrainedModel, case: Case, path: str | None = None
) -> tuple[Attribution, ...]:
    """What the explained output rests on, by every method that fits."""
    net, inputs, output = model.model, case.inputs, case.output
    found = [
        saliency(net, inputs, output=output, samples=_SAMPLES),
        integrated_gradients(net, inputs, output=output),
    ]
    if inputs.ndim == 3:
        found.append(occlusion(net, inputs, output=output))
        with suppress(OptionError):  # of a network without convolutions there is none
            found.append(class_activation_map(net, inputs, output=output))
        with suppress(ShapeError):  # of a layer without images
            if path is not None:
                found.append(
                    class_activation_map(net, inputs, output=output, layer=path)
                )
    return tuple(replace(f, target=case.target) for f in found)


def _most(model: TrainedModel) -> int:
    return _COMPARED_PICTURES if model.architecture.is_dense else _COMPARED


def _with_layer(
    found: RunExplanation,
    model: TrainedModel,
    inputs: data.Dataset | Array,
    path: str,
) -> RunExplanation:
    """The same with what one layer does, and what its units like to see."""
    net, layer = model.model, found.inside.at(path)
    units = layer.units[:_NUM_UNITS]
    exciting: tuple[Exciting, ...] = ()
    visualised = None
    if len(inputs):
        known = answers(net, inputs, path)
        exciting = tuple(
            most_exciting(net, inputs, path, unit, count=_NUM_EXCITING, found=known)
            for unit in units
        )
        seen = (
            inputs
            if not isinstance(inputs, data.Dataset)
            else inputs.read(np.arange(len(inputs)))
        )
        low, high = _range(model, seen)
        visualised = visualise(
            net, path, seen.shape[1:], units,
            low=low, high=high, neutral=seen.mean(axis=0),
        )  # fmt: skip
        best = known.values.max(axis=0)[units]
        visualised = replace(visualised, best=tuple(best.tolist()))
    return replace(
        found,
        layer=layer,
        exciting=exciting,
        visualised=visualised,
        derivation=_derivation(net, found.inside, layer),
    )


def _range(model: TrainedModel, seen: Array) -> tuple[Array, Array]:
    """The least and the largest number of each channel or feature."""
    axes = tuple(range(seen.ndim - 1))
    low, high = seen.min(axis=axes).astype(np.float64), seen.max(axis=axes)
    if model.architecture.takes_pixels and not model.architecture.is_dense:
        low, high = np.zeros(low.shape), np.full(high.shape, 255.0)
    return low, np.maximum(high, low + 1e-3)


def _derivation(net: nn.Module, inside: Inside, layer: LayerState) -> str:
    """∂loss/∂output at its largest entry, written out."""
    from chainrule.explanation import explain

    node: Tensor = inside.outputs[layer.path]
    if not layer.gradient_norm > 0:
        return "the loss does not depend on this layer here: its gradient is 0"
    _name(net, inside, layer.path)
    found = explain(inside.loss, wrt=node, max_depth=2)
    return str(replace(found, hints=()))


def _name(net: nn.Module, inside: Inside, path: str) -> None:
    """Call weights and layers' outputs by their paths, the explained one by its own."""
    inside.loss.name = "loss"
    for name, held in (*net.named_parameters(), *net.named_buffers()):
        held.name = name.removeprefix("network.")
    for name, node in {path: inside.outputs[path], **inside.outputs}.items():
        if node.op is not None and node.name is None:
            node.name = name.removeprefix("network.")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(
            f"cannot make the folder {folder}",
            got=error.strerror or error,
            expected="a place where folders can be made",
            hint="--html FILE writes the page elsewhere",
        ) from None
