"""The script and its table need torch; pytest runs without it."""

collect_ignore = ["compare_with_pytorch.py", "counterparts.py", "image_counterparts.py"]
