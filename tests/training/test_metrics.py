"""Scores agree with scikit-learn's, ties and empty classes included."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from chainrule.errors import ShapeError
from chainrule.training import metrics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_accuracy_and_top_k_agree_with_scikit_learn(rng):
    scores, labels = rng.normal(size=(200, 7)), rng.integers(0, 7, 200)
    assert metrics.accuracy(scores, labels) == sklearn_metrics.accuracy_score(
        labels, scores.argmax(axis=1)
    )
    for k in (1, 3, 6):
        assert metrics.top_k_accuracy(scores, labels, k) == pytest.approx(
            sklearn_metrics.top_k_accuracy_score(labels, scores, k=k)
        )


def test_equal_scores_count_for_the_first_class_as_argmax_does():
    scores = np.zeros((2, 3))
    assert metrics.accuracy(scores, np.array([0, 1])) == 0.5
    assert metrics.top_k_accuracy(scores, np.array([0, 1]), 2) == 1.0


def test_confusion_matrix_and_class_scores_agree_with_scikit_learn(rng):
    predicted, labels = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    confusion = metrics.confusion_matrix(predicted, labels, 5)  # class 4 never occurs
    expected = sklearn_metrics.confusion_matrix(labels, predicted, labels=range(5))
    np.testing.assert_array_equal(confusion, expected)
    ours = metrics.class_scores(confusion)
    precision, recall, f1, count = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(5), zero_division=0
    )
    np.testing.assert_allclose(ours["precision"], precision)
    np.testing.assert_allclose(ours["recall"], recall)
    np.testing.assert_allclose(ours["f1"], f1)
    np.testing.assert_array_equal(ours["num_examples"], count)


def test_multi_label_scores_agree_with_scikit_learn(rng):
    scores = rng.normal(size=(100, 6)).round(1)  # rounding makes ties
    targets = (rng.random((100, 6)) < 0.3).astype(np.float32)
    ours = metrics.f1_scores(scores, targets)
    for average in ("micro", "macro"):
        assert ours[f"f1_{average}"] == pytest.approx(
            sklearn_metrics.f1_score(targets, scores > 0, average=average)
        )
    assert metrics.average_precision(scores, targets) == pytest.approx(
        sklearn_metrics.average_precision_score(targets, scores)
    )


def test_regression_scores_agree_with_scikit_learn(rng):
    predicted, targets = rng.normal(size=(50, 2)), rng.normal(size=(50, 2))
    assert metrics.r2_score(predicted, targets) == pytest.approx(
        sklearn_metrics.r2_score(targets, predicted)
    )
    assert metrics.mean_absolute_error(predicted, targets) == pytest.approx(
        sklearn_metrics.mean_absolute_error(targets, predicted)
    )


def test_lengths_that_differ_are_named():
    with pytest.raises(ShapeError, match="2 predictions, 3 targets"):
        metrics.mean_absolute_error(np.zeros(2), np.zeros(3))
