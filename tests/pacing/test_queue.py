"""What three servers report of their queue, in the text of their metrics."""

from __future__ import annotations

import pytest

from batchcall.pacing.queue import read_queue


@pytest.mark.parametrize(
    ("text", "queue"),
    [
        (
            'vllm:num_requests_running{model_name="m",engine="0"} 12.0\nvllm:num_requests_waiting{engine="0"} 3\n',
            (12, 3),
        ),
        ("sglang:num_running_reqs 4\nsglang:num_queue_reqs 0 1700000000000", (4, 0)),
        ("llamacpp:requests_processing 1\nllamacpp:requests_deferred 7", (1, 7)),
        ('vllm:num_requests_running{e="0"} 1\nvllm:num_requests_running{e="1"} 2\nvllm:num_requests_waiting 0', (3, 0)),
        ("vllm:num_requests_running NaN\nvllm:num_requests_waiting 0", None),
        ('vllm:num_requests_running{e="0"}12\nvllm:num_requests_waiting{e="0"}3', (12, 3)),
        ("vllm:num_requests_running -0.5\nvllm:num_requests_waiting 0", None),
        ("# HELP python_info\npython_info 1", None),
        ("<html>", None),
        ("vllm:num_requests_running\nvllm:num_requests_waiting x", None),
    ],
)
def test_the_queue_is_read_from_the_metrics_of_three_servers(text: str, queue: tuple[float, float] | None) -> None:
    assert read_queue(text) == queue
