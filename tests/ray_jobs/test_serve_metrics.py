"""Metrics read back by Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families

from ray_jobs.serve_metrics import ServeMetrics


def samples(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(label for _, label in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_what_was_counted_is_told() -> None:
    metrics = ServeMetrics()
    metrics.request("/segment", 200, 0.2)
    metrics.request("/segment", 413, 0.001)
    metrics.photograph(["ok", "no_occlusion_prompts"], 3, {"models": 150.0})
    metrics.photograph(["no_face"], 3, {"models": 50.0})
    told = samples(metrics.text())
    assert told["s3pot_requests_total", ("/segment", "200")] == 1
    assert told["s3pot_requests_total", ("/segment", "413")] == 1
    assert told["s3pot_request_seconds_count", ("/segment",)] == 2
    assert told["s3pot_request_seconds_bucket", ("0.005", "/segment")] == 1
    assert told["s3pot_faces_total", ("no_face",)] == 1
    assert told["s3pot_batch_size_bucket", ("2.0",)] == 0
    assert told["s3pot_batch_size_bucket", ("4.0",)] == 2
    assert told["s3pot_stage_seconds_sum", ("models",)] == 0.2


def test_two_ingresses_in_one_process_do_not_share() -> None:
    ServeMetrics().request("/", 200, 0.1)
    assert ("s3pot_requests_total", ("/", "200")) not in samples(ServeMetrics().text())
