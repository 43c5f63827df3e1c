"""What the server has done since its start, for /metrics: own counters, with few labels and nothing of visitors in them."""

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

disable_created_metrics()  # a second series for each, which says when it began
REGISTRY = CollectorRegistry(auto_describe=False)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

requests = Counter(
    "shared_attention_requests", "Requests by pattern of their route", ("route", "method", "status"), registry=REGISTRY
)
request_seconds = Histogram(
    "shared_attention_request_seconds", "Until an answer begins", ("route",), buckets=_SECONDS, registry=REGISTRY
)
events = Counter(
    "shared_attention_events",
    "Events of the page and calls of endpoints by what became of them: ok, refused (a sentence), fault, left",
    ("event", "outcome"),
    registry=REGISTRY,
)
event_seconds = Histogram(
    "shared_attention_event_seconds", "From start to end, waiting in a line included", ("event",), buckets=_SECONDS,
    registry=REGISTRY,
)  # fmt: skip
generated_tokens = Counter("shared_attention_generated_tokens", "Tokens written, of both models", registry=REGISTRY)
evaluations = Counter("shared_attention_evaluations", "Evaluations started on the page", registry=REGISTRY)
loads = Counter("shared_attention_loads", "Models loaded, or not", ("outcome",), registry=REGISTRY)
