"""Scores and durations as a person reads them."""

from __future__ import annotations

__all__ = ["duration_text", "score_name", "score_text", "share_text"]

_DECIBELS = ("psnr", "psnr_hole")
_SHARES = (
    "accuracy", "top_5_accuracy", "exact_match", "mean_iou", "pixel_accuracy"
)  # fmt: skip


def score_name(name: str) -> str:
    """What a score is called in a sentence.

    Example:
        >>> score_name("f1_micro"), score_name("r2"), score_name("num_examples")
        ('F1 micro', 'R²', 'examples')
    """
    words = name.removeprefix("num_").split("_")
    known = {"f1": "F1", "r2": "R²", "psnr": "PSNR", "ssim": "SSIM", "iou": "IoU"}
    if words[0] == "psnr" and len(words) > 1:
        return f"PSNR in the {words[1]}"
    return " ".join(known.get(word, word) for word in words)


def score_text(name: str, value: float) -> str:
    """A score as a person reads it: 97.81 %, 0.0812 or 1,797.

    Example:
        >>> score_text("accuracy", 0.97812), score_text("loss", 0.0812345)
        ('97.81 %', '0.08123')
    """
    if isinstance(value, int):
        return f"{value:,}"
    if name in _DECIBELS:
        return f"{value:.2f} dB"
    return f"{100 * value:.2f} %" if name in _SHARES else f"{value:.4g}"


def share_text(value: float) -> str:
    """A probability in per cent; what is not certain is not rounded to 0 or 100."""
    if 0 < value < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= value < 1:
        return "> 99.9 %"
    return f"{100 * value:.1f} %"


def duration_text(time_s: float) -> str:
    """A duration as a person reads it."""
    if time_s < 60:
        return f"{time_s:.1f} s"
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
