import pytest

from chainrule import tasks


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A short run on the digits, shared by tests that only read it."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    return tasks.train(
        tasks.Settings(
            out=str(folder),
            hidden=(16,),
            epochs=2,
            seed=0,
            batch_size=32,
            schedule="constant",
        )
    )
