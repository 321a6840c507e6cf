"""The log of a run: cut back to a checkpoint, never longer than it was."""

from chainrule.training import MetricsLog, read_rows


def rows(path):
    return [row["step"] for row in read_rows(path)]


def test_a_log_that_is_cut_back_says_where_it_ends(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.append({"step": 1})
    position = log.sync()
    log.append({"step": 2})
    log.close()

    log = MetricsLog(path, position)
    assert log.sync() == position == path.stat().st_size
    log.append({"step": 3})
    assert log.sync() == path.stat().st_size
    log.close()
    assert rows(path) == [1, 3]


def test_a_log_shorter_than_its_checkpoint_is_not_filled_up(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 1000)
    log.append({"step": 7})
    log.close()
    assert path.read_bytes() == b'{"step": 7}\n'
