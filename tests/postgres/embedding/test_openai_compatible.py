"""An OpenAI-compatible endpoint over real HTTP, in good and in every bad mood."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embeddings_endpoint import QUICK, WIDTH, Endpoint, Reply, good, numbers_of
from everindex.articles.embedding import EmbeddingBatch, OpenAICompatibleEmbedder, RetryPolicy, embed_query
from everindex.articles.embedding.openai_compatible import MAX_BATCH_TEXTS, MAX_REFUSALS_IN_A_ROW, MAX_TEXT_CHARS
from everindex.errors import EmbeddingFailed, EmbeddingModelUnusable

TEXTS = ["a", "bb", "ccc"]


def assert_all_failed(batch: EmbeddingBatch, count: int, *, reason: str) -> None:
    assert batch.vectors.shape == (count, WIDTH)
    assert np.isnan(batch.vectors).all()
    assert sorted(batch.failures) == list(range(count))
    assert all(reason in told for told in batch.failures.values()), batch.failures


def items(*vectors: Any) -> dict[str, Any]:
    return {"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]}


def always(reply: Reply) -> Any:
    return lambda _request, _before: reply


# --- success -------------------------------------------------------------------------------------------------------


def test_every_text_gets_its_vector(endpoint: Endpoint) -> None:
    batch = endpoint.embedder().embed(TEXTS)
    assert batch.failures == {}
    assert batch.vectors.dtype == np.float32
    assert batch.vectors.tolist() == [numbers_of(text) for text in TEXTS]


def test_no_text_makes_no_request(endpoint: Endpoint) -> None:
    assert endpoint.embedder().embed([]).vectors.shape == (0, WIDTH)
    assert endpoint.requests == []


def test_vectors_in_another_order_find_their_texts_by_index(endpoint: Endpoint) -> None:
    endpoint.answer = lambda request, _: Reply(body={"data": good(request).body["data"][::-1]})
    assert endpoint.embedder().embed(TEXTS).vectors.tolist() == [numbers_of(text) for text in TEXTS]


def test_vectors_without_any_index_are_taken_in_order(endpoint: Endpoint) -> None:
    endpoint.answer = lambda request, _: Reply(body={"data": [{"embedding": numbers_of(t)} for t in request["input"]]})
    assert endpoint.embedder().embed(["a", "bb"]).vectors.tolist() == [numbers_of("a"), numbers_of("bb")]


def test_vectors_as_base64_are_read(endpoint: Endpoint) -> None:
    packed = base64.b64encode(np.array(numbers_of("abc"), dtype="<f4").tobytes()).decode()
    endpoint.answer = always(Reply(body=items(packed)))
    assert endpoint.embedder().embed(["abc"]).vectors[0].tolist() == numbers_of("abc")


def test_many_texts_go_in_bounded_batches(endpoint: Endpoint) -> None:
    texts = ["x" * (1 + i % 7) for i in range(600)]
    batch = endpoint.embedder().embed(texts)
    assert batch.failures == {}
    assert batch.vectors.tolist() == [numbers_of(text) for text in texts]
    assert [len(request["input"]) for request in endpoint.requests] == [MAX_BATCH_TEXTS, MAX_BATCH_TEXTS, 88]


def test_long_texts_are_cut_and_shared_out_over_more_batches(endpoint: Endpoint) -> None:
    assert endpoint.embedder().embed(["x" * (MAX_TEXT_CHARS + 5)] * 10).failures == {}
    assert [len(request["input"]) for request in endpoint.requests] == [8, 2]
    assert {len(text) for request in endpoint.requests for text in request["input"]} == {MAX_TEXT_CHARS}


def test_dimensions_are_asked_only_of_models_that_take_them(endpoint: Endpoint) -> None:
    endpoint.embedder(model_name="text-embedding-3-small").embed(["a"])
    endpoint.embedder(model_name="nomic-embed-text").embed(["a"])
    assert [request.get("dimensions") for request in endpoint.requests] == [WIDTH, None]


def test_a_local_server_needs_no_key(endpoint: Endpoint) -> None:
    assert endpoint.embedder(api_key=None).embed(["a"]).failures == {}
    assert endpoint.authorizations == ["Bearer none"]


def test_a_query_gets_one_vector(endpoint: Endpoint) -> None:
    assert embed_query(endpoint.embedder(), "abc").tolist() == numbers_of("abc")


# --- texts that cannot be sent, or are refused ---------------------------------------------------------------------


def test_unsendable_texts_are_not_sent_and_cost_only_themselves(endpoint: Endpoint) -> None:
    texts: list[Any] = ["a", "", "  \n", "half \ud800 pair", None, "bb"]
    batch = endpoint.embedder().embed(texts)
    assert sorted(batch.failures) == [1, 2, 3, 4]
    assert endpoint.requests[0]["input"] == ["a", "bb"]


def test_one_poisoned_text_does_not_sink_the_others(endpoint: Endpoint) -> None:
    def answer(request: dict[str, Any], _: int) -> Reply:
        if "poison" in request["input"]:
            return Reply(status=400, body={"error": {"message": "input is not allowed"}})
        return good(request)

    endpoint.answer = answer
    texts = ["fine"] * 100
    texts[37] = "poison"
    batch = endpoint.embedder().embed(texts)
    assert list(batch.failures) == [37]
    assert "input is not allowed" in batch.failures[37]
    assert not np.isnan(np.delete(batch.vectors, 37, axis=0)).any()


def test_an_endpoint_that_refuses_everything_is_given_up(endpoint: Endpoint) -> None:
    endpoint.answer = always(Reply(status=400, body={"error": {"message": "no such parameter"}}))
    assert_all_failed(endpoint.embedder().embed(["a"] * 500), 500, reason="no such parameter")
    assert len(endpoint.requests) == MAX_REFUSALS_IN_A_ROW


# --- endpoints in trouble ------------------------------------------------------------------------------------------


def test_too_many_requests_are_repeated_after_the_time_the_server_asks_for(endpoint: Endpoint) -> None:
    busy = Reply(status=429, headers={"Retry-After": "0.3"}, body={"error": {"message": "slow down"}})
    endpoint.answer = lambda request, before: busy if before == 0 else good(request)
    assert endpoint.embedder().embed(["a"]).failures == {}
    assert endpoint.arrivals[1] - endpoint.arrivals[0] >= 0.3


def test_a_server_that_asks_for_an_hour_is_given_up_for_now(endpoint: Endpoint) -> None:
    endpoint.answer = always(Reply(status=429, headers={"Retry-After": "3600"}, body={"error": {"message": "later"}}))
    assert_all_failed(endpoint.embedder().embed(["a"]), 1, reason="HTTP 429")
    assert len(endpoint.requests) == 1


def test_an_exhausted_quota_is_not_asked_again(endpoint: Endpoint) -> None:
    body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    endpoint.answer = always(Reply(status=429, body=body))
    assert_all_failed(endpoint.embedder().embed(["a"]), 1, reason="quota")
    assert len(endpoint.requests) == 1


def test_a_server_error_that_passes_is_survived(endpoint: Endpoint) -> None:
    endpoint.answer = lambda request, before: Reply(status=503) if before < 2 else good(request)
    assert endpoint.embedder().embed(["a", "bb"]).failures == {}


def test_a_server_error_that_stays_fails_all_texts_after_few_attempts(endpoint: Endpoint) -> None:
    endpoint.answer = always(Reply(status=500, body={"error": {"message": "oops"}}))
    assert_all_failed(endpoint.embedder().embed(["a"] * 600), 600, reason="HTTP 500")
    assert [len(request["input"]) for request in endpoint.requests] == [MAX_BATCH_TEXTS] * QUICK.attempts + [1, 1]


def fails_above(texts: int, failure: Reply) -> Callable[[dict[str, Any], int], Reply]:
    return lambda request, _: good(request) if len(request["input"]) <= texts else failure


@pytest.mark.parametrize(
    "failure",
    [
        Reply(status=500, body={"error": {"message": "out of memory"}}),
        Reply(status=503),
        Reply(status=413),
        Reply(status=400, body={"error": {"message": "too many tokens"}}),
        Reply(body=b'{"data": [', announced_bytes=5000),
        Reply(delay_seconds=0.6),
    ],
    ids=["500", "503", "413", "400", "broken", "time-out"],
)
@pytest.mark.parametrize("most", [1, 48])
def test_an_endpoint_that_fails_at_large_batches_gets_smaller_ones_and_their_size_is_remembered(
    endpoint: Endpoint, failure: Reply, most: int
) -> None:
    endpoint.answer = fails_above(most, failure)
    embedder = endpoint.embedder(timeout_seconds=0.3)
    texts = ["x" * (1 + number % 7) for number in range(270)]
    batch = embedder.embed(texts)
    assert batch.failures == {}
    assert batch.vectors.tolist() == [numbers_of(text) for text in texts]
    failed = [request for request in endpoint.requests if len(request["input"]) > most]
    assert len(failed) <= QUICK.attempts + 9
    endpoint.requests.clear()
    assert embedder.embed(texts[:32]).failures == {}
    assert all(len(request["input"]) <= most for request in endpoint.requests)


def test_texts_at_which_the_server_fails_cost_only_themselves(endpoint: Endpoint) -> None:
    bad = {3, 100, 101, 102, 103, 255, 256, 400}
    endpoint.answer = lambda request, _: Reply(status=500) if "bad" in request["input"] else good(request)
    batch = endpoint.embedder().embed(["bad" if number in bad else "good" for number in range(500)])
    assert set(batch.failures) == bad
    assert len(endpoint.requests) < 110


def test_a_server_that_dies_in_the_middle_is_given_up_soon(endpoint: Endpoint) -> None:
    endpoint.answer = lambda request, before: good(request) if before < 2 else Reply(status=500)
    batch = endpoint.embedder().embed(["a"] * 2000)
    assert len(batch.failures) == 2000 - 2 * MAX_BATCH_TEXTS
    assert len(endpoint.requests) < 2 + QUICK.attempts + 16


def test_a_size_that_worked_is_left_for_a_larger_one_in_time(endpoint: Endpoint) -> None:
    endpoint.answer = fails_above(64, Reply(status=500))
    embedder = endpoint.embedder()
    embedder.embed(["a"] * MAX_BATCH_TEXTS)
    endpoint.answer = lambda request, _: good(request)
    for _ in range(30):
        embedder.embed(["a"] * MAX_BATCH_TEXTS)
    assert len(endpoint.requests[-1]["input"]) == MAX_BATCH_TEXTS


def test_vectors_received_before_the_trouble_are_kept(endpoint: Endpoint) -> None:
    endpoint.answer = lambda request, before: good(request) if before == 0 else Reply(status=500)
    batch = endpoint.embedder().embed(["a"] * 600)
    assert sorted(batch.failures) == list(range(MAX_BATCH_TEXTS, 600))
    assert not np.isnan(batch.vectors[:MAX_BATCH_TEXTS]).any()


def test_a_server_that_does_not_answer_in_time_fails_the_texts(endpoint: Endpoint) -> None:
    endpoint.answer = always(Reply(delay_seconds=0.4))
    embedder = endpoint.embedder(timeout_seconds=0.1, retries=RetryPolicy(attempts=1))
    assert_all_failed(embedder.embed(["a"]), 1, reason="did not answer within 0.1 s")


def test_an_address_where_nobody_listens_fails_the_texts(endpoint: Endpoint) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    embedder = endpoint.embedder(base_url=f"http://user:pass-word@127.0.0.1:{port}/v1")
    assert_all_failed(embedder.embed(["a"]), 1, reason="cannot be reached")


@pytest.mark.parametrize("address", ["nonsense", "http://[", "ftp://127.0.0.1/", "http://127.0.0.1:99999/v1"])
def test_an_impossible_address_fails_the_texts(endpoint: Endpoint, address: str) -> None:
    assert_all_failed(endpoint.embedder(base_url=address).embed(["a"]), 1, reason="the endpoint can")


def test_a_connection_that_breaks_off_is_tried_again(endpoint: Endpoint) -> None:
    broken = Reply(body=b'{"data": [', announced_bytes=5000)
    endpoint.answer = lambda request, before: broken if before == 0 else good(request)
    assert endpoint.embedder().embed(["a"]).failures == {}


# --- secrets -------------------------------------------------------------------------------------------------------


def test_no_reason_and_no_repr_shows_the_key(endpoint: Endpoint) -> None:
    for status in (400, 401, 403, 404, 429, 500):
        endpoint.answer = always(Reply(status=status, body={"error": {"message": "bad key sk-very-secret"}}))
        embedder = endpoint.embedder()
        assert "secret" not in str(embedder.embed(["a"]).failures) + repr(embedder)


@pytest.mark.parametrize("key", ["sk-very\nsecret", "sk-very…secret"])
def test_a_key_that_no_header_can_hold_is_told_without_it(endpoint: Endpoint, key: str) -> None:
    assert endpoint.embedder(api_key=key).embed(["a"]).failures == {
        0: "OPENAI_API_KEY contains a character that an HTTP header cannot, such as a line break"
    }
    assert endpoint.requests == []


def test_a_failed_query_is_told_in_three_lines_without_the_key(endpoint: Endpoint) -> None:
    endpoint.answer = always(Reply(status=401, body={"error": {"message": "Incorrect API key: sk-very***cret"}}))
    with pytest.raises(EmbeddingFailed) as raised:
        embed_query(endpoint.embedder(), "a")
    lines = str(raised.value).splitlines()
    assert lines[0].startswith("embedding-failed: ")
    assert lines[1] == "  why:  the endpoint refuses the key (HTTP 401)."
    assert "OPENAI_API_KEY" in lines[2]
    assert "sk-" not in str(raised.value)


# --- answers that are wrong ----------------------------------------------------------------------------------------


def test_a_numbers_of_another_width_is_refused(endpoint: Endpoint) -> None:
    endpoint.answer = lambda request, _: good(request, width=WIDTH + 1)
    assert_all_failed(endpoint.embedder().embed(["a", "b"]), 2, reason=f"returned {WIDTH + 1} dimensions")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ([float("nan")] + [1.0] * (WIDTH - 1), "not a finite number"),
        ([float("inf")] + [1.0] * (WIDTH - 1), "not a finite number"),
        ([1e300] * WIDTH, "not a finite number"),
        ([0.0] * WIDTH, "zero"),
        ([1e-9] * WIDTH, "too short"),
        ([1e5] * WIDTH, "65504"),
        (["1.0"] * WIDTH, "no list of numbers"),
        ([[1.0]] * WIDTH, "no list of numbers"),
        ([True] * WIDTH, "no list of numbers"),
        ([10**400] * WIDTH, "no list of numbers"),
        ("not base64!", "no list of numbers"),
        ([], "returned 0 dimensions"),
        (None, "no vector"),
        ({"0": 1.0}, "no vector"),
    ],
)
def test_a_bad_vector_costs_only_its_text(endpoint: Endpoint, bad: Any, reason: str) -> None:
    endpoint.answer = always(Reply(body=items(numbers_of("a"), bad, numbers_of("ccc"))))
    batch = endpoint.embedder().embed(["a", "bb", "ccc"])
    assert list(batch.failures) == [1]
    assert reason in batch.failures[1]
    assert np.isnan(batch.vectors[1]).all()
    assert batch.vectors[[0, 2]].tolist() == [numbers_of("a"), numbers_of("ccc")]


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": [{"index": 0, "embe',
        b"",
        b"\xff\xfe",
        b"<html>a proxy</html>",
        b"[" * 100_000,
        b"null",
        b'{"data": null}',
        b'{"data": [1, 2]}',
        json.dumps(items(numbers_of("a"))).encode(),
        json.dumps(items(*[numbers_of("a")] * 3)).encode(),
        json.dumps({"data": [{"index": 0, "embedding": numbers_of("a")}] * 2}).encode(),
        json.dumps({"data": [{"index": i, "embedding": numbers_of("a")} for i in (1, 2)]}).encode(),
        json.dumps({"data": [{"index": i, "embedding": numbers_of("a")} for i in ("0", None)]}).encode(),
        json.dumps({"data": [{"index": 0, "embedding": numbers_of("a")}, {"embedding": numbers_of("a")}]}).encode(),
    ],
    ids=range(14),
)
def test_an_answer_that_cannot_be_matched_with_the_texts_fails_them(endpoint: Endpoint, body: bytes) -> None:
    endpoint.answer = always(Reply(body=body))
    assert_all_failed(endpoint.embedder().embed(["a", "bb"]), 2, reason="the endpoint")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
numbers = st.one_of(st.floats(), st.floats(width=32), st.integers(-3, 3), st.just(0.0), json_values)
vectors = st.one_of(st.lists(numbers, min_size=WIDTH, max_size=WIDTH), st.lists(numbers, max_size=WIDTH), json_values)
entries = st.one_of(
    st.fixed_dictionaries({"index": st.integers(-1, 3) | json_values, "embedding": vectors}),
    st.fixed_dictionaries({"embedding": vectors}),
    json_values,
)
in_order = st.lists(vectors, min_size=2, max_size=2).map(lambda two: items(*two))
answers = st.one_of(in_order, st.fixed_dictionaries({"data": st.lists(entries, max_size=4)}), json_values)


@cache
def _property_embedder(url: str) -> OpenAICompatibleEmbedder:
    return OpenAICompatibleEmbedder(width=WIDTH, base_url=url, model_name="local", retries=RetryPolicy(attempts=1))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=answers, status=st.sampled_from([200] * 8 + [400, 404, 500]))
def test_whatever_the_server_answers_no_bad_vector_comes_out(endpoint: Endpoint, body: Any, status: int) -> None:
    endpoint.answer = always(Reply(status=status, body=body))
    batch = _property_embedder(endpoint.url).embed(["a", "bb"])
    assert batch.vectors.shape == (2, WIDTH)
    for row in range(2):
        if row in batch.failures:
            assert np.isnan(batch.vectors[row]).all()
        else:
            assert np.isfinite(batch.vectors[row]).all()
            assert np.linalg.norm(batch.vectors[row].astype(float)) >= 1e-3


def test_a_model_narrower_than_the_column_is_refused_at_once(endpoint: Endpoint) -> None:
    with pytest.raises(EmbeddingModelUnusable, match="1536"):
        endpoint.embedder(model_name="text-embedding-3-small", width=3072)
