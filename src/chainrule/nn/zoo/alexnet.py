"""AlexNet, with which deep networks won the ImageNet challenge of 2012."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chainrule.nn.activations import ReLU
from chainrule.nn.containers import Sequential
from chainrule.nn.convolution import Conv
from chainrule.nn.normalization import LocalResponseNorm
from chainrule.nn.pooling import MaxPool
from chainrule.nn.shape import Flatten
from chainrule.nn.summary import output_shape
from chainrule.nn.zoo.parts import classifier, picture_shape

__all__ = ["alexnet", "alexnet_two_groups"]


def alexnet(
    in_shape: Sequence[int] = (224, 224, 3),
    num_outputs: int = 1000,
    *,
    dropout: float = 0.5,
) -> Sequential:
    """AlexNet as one tower: convolutions of 64-192-384-256-256, three dense layers.

    With 224×224 pictures and 1000 classes it has 61,100,840 parameters, 494,184 units
    and 714 million connections. The two towers of the original let it run on two
    graphics cards; one processor has no use for them.

    Args:
        in_shape: height, width and channels of a picture, at least 63 pixels each way.
        num_outputs: the number of outputs; they are scores, without an activation.
        dropout: the rate at which the hidden layers' inputs are dropped in training.

    Shapes: (n, *in_shape) -> (n, num_outputs).

    Raises:
        ShapeError: for smaller pictures, of which nothing would be left.

    Source: Krizhevsky, "One weird trick for parallelizing convolutional neural
    networks", 2014, footnote 1.
    """
    *_, channels = picture_shape("alexnet", in_shape)
    features = Sequential(
        conv1=Conv(channels, 64, 11, stride=4, padding=2),
        relu1=ReLU(),
        pool1=MaxPool(3, stride=2),
        conv2=Conv(64, 192, 5, padding=2),
        relu2=ReLU(),
        pool2=MaxPool(3, stride=2),
        conv3=Conv(192, 384, 3, padding=1),
        relu3=ReLU(),
        conv4=Conv(384, 256, 3, padding=1),
        relu4=ReLU(),
        conv5=Conv(256, 256, 3, padding=1),
        relu5=ReLU(),
        pool5=MaxPool(3, stride=2),
    )
    return _with_classifier(features, in_shape, num_outputs, dropout)


def alexnet_two_groups(
    in_shape: Sequence[int] = (227, 227, 3),
    num_outputs: int = 1000,
    *,
    dropout: float = 0.5,
) -> Sequential:
    """AlexNet as it was: filters of 96-256-384-384-256, most of which see one half.

    Convolutions 2, 4 and 5 see only the channels of their own graphics card, as two
    groups; 1 and 2 are followed by local response normalisation; pooling windows of 3
    overlap at a stride of 2. With 227×227 pictures (the paper's 224 do not fit its own
    first layer) and 1000 classes it has 60,965,224 parameters, 659,272 units and 724
    million connections, which the paper gives as 60 million and 650,000.

    Weights start by He's rule, where the paper draws them with deviation 0.01 and
    starts some biases at 1.

    Shapes: (n, *in_shape) -> (n, num_outputs).

    Raises:
        ShapeError: for pictures below 67×67, of which nothing would be left.

    Source: Krizhevsky, Sutskever & Hinton, "ImageNet classification with deep
    convolutional neural networks", 2012, section 3.5.
    """
    *_, channels = picture_shape("alexnet_two_groups", in_shape)
    features = Sequential(
        conv1=Conv(channels, 96, 11, stride=4),
        relu1=ReLU(),
        norm1=LocalResponseNorm(),
        pool1=MaxPool(3, stride=2),
        conv2=Conv(96, 256, 5, padding=2, groups=2),
        relu2=ReLU(),
        norm2=LocalResponseNorm(),
        pool2=MaxPool(3, stride=2),
        conv3=Conv(256, 384, 3, padding=1),
        relu3=ReLU(),
        conv4=Conv(384, 384, 3, padding=1, groups=2),
        relu4=ReLU(),
        conv5=Conv(384, 256, 3, padding=1, groups=2),
        relu5=ReLU(),
        pool5=MaxPool(3, stride=2),
    )
    return _with_classifier(features, in_shape, num_outputs, dropout)


def _with_classifier(
    features: Sequential, in_shape: Sequence[int], num_outputs: int, dropout: float
) -> Sequential:
    in_features = math.prod(output_shape(features, in_shape))
    return Sequential(
        features=features,
        flatten=Flatten(),
        classifier=classifier(in_features, (4096, 4096), num_outputs, dropout),
    )
