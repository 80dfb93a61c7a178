"""The report as a job."""

from pathlib import Path

from ray_jobs.evaluate import EvaluateConfig, evaluate
from ray_jobs.report import ReportConfig, report
from s3pot.store.prompt_store import PromptStore


def test_pictures_only_when_asked(astronaut_store: PromptStore, tmp_path: Path) -> None:
    folder = evaluate(EvaluateConfig(store=astronaut_store.root, head="none", runs=tmp_path))
    evaluations = {"greedy": folder}
    shy = report(ReportConfig(store=astronaut_store.root, evaluations=evaluations, out=tmp_path / "shy.html"))
    assert "<img" not in shy.read_text()
    config = ReportConfig(store=astronaut_store.root, evaluations=evaluations, out=tmp_path / "full.html", images=True)
    assert report(config).read_text().count("<img") >= 5 * 7
