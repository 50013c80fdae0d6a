"""Spans for OpenTelemetry: of requests, searches and deploys, where the environment asks for them (extra `otel`).

Without a tracer a span costs one comparison, and nothing of OpenTelemetry is imported. Exporter, endpoint, sampling and
resource are those of the OTEL_ variables, as the SDK reads them (Source: OpenTelemetry, Environment Variable Specification).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

#: One of these says where spans go.
_ASKS = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_tracer: Any = None


def use_tracer(tracer: Any) -> None:
    """Makes spans with this tracer (`opentelemetry.trace.get_tracer`), for a program with tracing of its own; None: no spans."""
    global _tracer
    _tracer = tracer


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment asks for spans."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(environment.get(name, "").strip() for name in _ASKS)


def start_tracing(version: str) -> None:
    """Exports spans from here to the end of the process, if the environment asks for it. Where it cannot be done, one line
    says so and the program goes on: a variable that a whole cluster sets must not stop it."""
    if not is_wanted(os.environ):
        return
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        os.environ.setdefault("OTEL_SERVICE_NAME", "everindex")
        provider = TracerProvider(resource=Resource.create({"service.version": version}))  # shut down at exit
        provider.add_span_processor(BatchSpanProcessor(_exporter()))
    except (ImportError, ValueError) as exc:
        log.warning(
            "nothing is traced although the environment asks for it (OTEL_): %s. Install everindex[otel], or set "
            "OTEL_SDK_DISABLED=true", exc, extra={"event": "tracing-off"},
        )  # fmt: skip
        return
    use_tracer(provider.get_tracer("everindex", version))


def _exporter() -> Any:
    """Raises ValueError for an exporter that the extra does not bring."""
    name = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() or "otlp"
    match name:
        case "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            return OTLPSpanExporter()
        case "console":
            import sys

            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            return ConsoleSpanExporter(out=sys.stderr)
        case _:
            raise ValueError(f"OTEL_TRACES_EXPORTER is {name[:40]!r}, and otlp, console and none are supported")


@contextmanager
def span(name: str, attributes: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """A span around a block; yields it, or None without a tracer. An exception of the block is recorded and goes on."""
    if _tracer is None:
        yield None
        return
    with _tracer.start_as_current_span(name, attributes=_written(attributes or {})) as current:
        yield current


@contextmanager
def request_span(headers: Mapping[str, str]) -> Iterator[Any]:
    """The span of a request, below the one of `traceparent` where the client sent it; yields None without a tracer."""
    if _tracer is None:
        yield None
        return
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
    parent = TraceContextTextMapPropagator().extract(carrier)
    with _tracer.start_as_current_span("request", context=parent, kind=SpanKind.SERVER) as current:
        yield current


def note(current: Any, name: str | None = None, **attributes: Any) -> None:
    """Adds what became known later to a span, if there is one: its name, and attributes (`http__route` is `http.route`)."""
    if current is None:
        return
    if name is not None:
        current.update_name(name)
    current.set_attributes(_written(attributes))


def trace_id() -> str | None:
    """The id of the trace that is current here, 32 hex digits; None without one."""
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def _written(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in attributes.items() if value is not None}
