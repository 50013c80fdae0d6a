"""Spans are made where the environment or a program asks for them, and nothing is imported otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from everindex import tracing

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use_tracer(provider.get_tracer("test"))
    yield exporter
    tracing.use_tracer(None)


def test_a_span_has_its_attributes_and_those_that_become_known_later(spans: InMemorySpanExporter) -> None:
    with tracing.span("search", {"everindex.k": 10}) as current:
        tracing.note(current, "search again", everindex__strategy="index", everindex__rows=None)
    (span,) = spans.get_finished_spans()
    assert (span.name, dict(span.attributes or {})) == (
        "search again",
        {"everindex.k": 10, "everindex.strategy": "index"},
    )


def test_a_request_continues_the_trace_of_its_client(spans: InMemorySpanExporter) -> None:
    with tracing.request_span({"traceparent": PARENT}), tracing.span("search"):
        assert tracing.trace_id() == "4bf92f3577b34da6a3ce929d0e0e4736"
    search, request = spans.get_finished_spans()
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert search.parent is not None
    assert search.parent.span_id == request.context.span_id


def test_an_error_is_recorded_and_goes_on(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="gone"), tracing.span("deploy index"):
        raise ValueError("gone")
    (span,) = spans.get_finished_spans()
    assert span.status.status_code.name == "ERROR"


def test_without_a_tracer_there_is_no_span_and_no_id() -> None:
    with tracing.span("search") as current, tracing.request_span({"traceparent": PARENT}) as request:
        tracing.note(current, everindex__k=1)
        assert (current, request, tracing.trace_id()) == (None, None, None)


@pytest.mark.parametrize(
    ("environment", "is_wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
    ],
)
def test_the_environment_asks_for_spans(environment: dict[str, str], is_wanted: bool) -> None:
    assert tracing.is_wanted(environment) is is_wanted


def test_without_the_extra_one_line_says_so_and_nothing_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    tracing.start_tracing("1")
    (record,) = caplog.records
    assert vars(record)["event"] == "tracing-off"
    assert tracing.trace_id() is None
