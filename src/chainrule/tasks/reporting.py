"""TEMPORARY."""
def write_run_report(run, job, outputs):
    (run.folder / "report.html").write_text("x")
