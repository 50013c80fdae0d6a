"""Reading what a scrape of metrics answered."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """(name, labels) → value, as Prometheus reads them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    """The value of the one sample of that name with these labels among its own; None without one."""
    found = [
        value for (each, of_sample), value in samples(text).items() if each == name and set(labels.items()) <= of_sample
    ]
    assert len(found) <= 1, found
    return found[0] if found else None


def families(text: str) -> set[str]:
    """The names of the families, those without a sample among them, as samples are named: a counter with `_total`."""
    return {
        f"{family.name}_total"
        if family.type == "counter"
        else f"{family.name}_info"
        if family.type == "info"
        else family.name
        for family in text_string_to_metric_families(text)
    }
