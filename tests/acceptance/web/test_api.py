"""The JSON API gives what the instance gives."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx2
import numpy as np
from fastapi import FastAPI

from everindex.articles.instance import Instance
from everindex.web.app import create_app
from loops import in_a_loop


def test_a_search_by_text_gives_what_the_instance_gives(client: httpx2.Client, web_instance: Instance) -> None:
    expected = web_instance.search("memory leak in the parser", k=5)

    answer = client.get("/api/search", params={"q": "memory leak in the parser", "k": 5}).json()

    assert [hit["uri"] for hit in answer["hits"]] == [hit.uri for hit in expected.hits]
    assert set(answer) == {
        "hits", "k", "mode", "strategy", "reason", "ef_search", "elapsed_ms", "notices", "diversity", "next_cursor",
        "previous_cursor", "shown_before", "sort",
    }  # fmt: skip
    assert set(answer["hits"][0]) == {
        "uri", "title", "summary", "news_source", "category", "topic", "publication_date", "distance", "similarity",
        "title_snippet", "snippet", "semantic_rank", "keyword_rank", "score", "rerank_score",
        "passage",
    }  # fmt: skip
    assert answer["k"] == 5
    assert answer["strategy"] == expected.strategy


def test_a_search_by_vector_gives_what_the_instance_gives(client: httpx2.Client, web_instance: Instance) -> None:
    vector = web_instance.embed_query("crash on Windows")
    expected = web_instance.search_vector(vector, k=7)

    answer = client.post("/api/search", json={"vector": [float(x) for x in vector], "k": 7}).json()
    for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = alphabet(vector.astype("<f4").tobytes()).decode()
        for text in (encoded, encoded.rstrip("=")):
            assert client.get("/api/search", params={"vector": text, "k": 7}).json()["hits"] == answer["hits"]

    assert [hit["uri"] for hit in answer["hits"]] == [hit.uri for hit in expected.hits]
    assert np.allclose([hit["distance"] for hit in answer["hits"]], [hit.distance for hit in expected.hits])
    assert all(abs(hit["similarity"] + hit["distance"] - 1) < 1e-9 for hit in answer["hits"])


def test_get_and_post_take_the_same_filters(client: httpx2.Client) -> None:
    asked = {"category": "Library", "since": "2016", "until": "2022-12", "k": 4}

    by_get = client.get("/api/search", params={"q": "regular expressions", **asked}).json()["hits"]
    by_post = client.post("/api/search", json={"text": "regular expressions", **asked}).json()["hits"]

    # The second may be ranked by words that have come into memory since: their counts are exact, those before estimated.
    assert [hit | {"score": None} for hit in by_get] == [hit | {"score": None} for hit in by_post]
    assert np.allclose([hit["score"] for hit in by_get], [hit["score"] for hit in by_post], rtol=0.01)
    assert len(by_get) == 4
    assert {hit["category"] for hit in by_get} == {"Library"}
    assert all("2016" <= hit["publication_date"] < "2023" for hit in by_get)


def test_a_filter_that_nothing_passes_gives_an_empty_answer(client: httpx2.Client) -> None:
    answer = client.get("/api/search", params={"q": "crash", "category": "No such category"})

    assert answer.status_code == 200
    assert answer.json()["hits"] == []
    assert answer.json()["strategy"] == "none-match"


def test_an_empty_filter_filters_nothing(client: httpx2.Client) -> None:
    answer = client.get("/api/search", params={"q": "crash", "category": "", "topic": "", "since": "", "until": ""})

    assert len(answer.json()["hits"]) == 10


def test_an_article_has_neighbours_without_itself(client: httpx2.Client) -> None:
    uri = client.get("/api/search", params={"q": "unicode normalisation", "k": 1}).json()["hits"][0]["uri"]

    article = client.get("/api/article", params={"uri": uri}).json()
    similar = client.get("/api/similar", params={"uri": uri, "k": 3}).json()

    assert article["uri"] == uri
    assert len(similar["hits"]) == 3
    assert uri not in [hit["uri"] for hit in similar["hits"]]


def test_facets_count_the_most_frequent_values_first(client: httpx2.Client) -> None:
    facets = client.get("/api/facets").json()

    assert set(facets) == {"category", "topic", "news_source"}
    counts = [facet["articles"] for facet in facets["category"]]
    assert counts == sorted(counts, reverse=True)
    assert {"Library"} <= {facet["value"] for facet in facets["category"]}


def test_an_incident_is_created_changed_and_listed(client: httpx2.Client) -> None:
    named = {"incident_name": "leak", "topic": "api"}

    created = client.post("/api/incidents", json=named)
    changed = client.patch("/api/incidents", json={**named, "status": "resolved"})
    resolved = client.get("/api/incidents", params={"status": "resolved"}).json()["incidents"]

    assert created.status_code == 201
    assert created.json()["status"] == "active"
    assert changed.json()["status"] == "resolved"
    assert next(incident for incident in resolved if incident["topic"] == "api")["incident_name"] == "leak"


def test_an_incident_that_is_there_already_is_refused(client: httpx2.Client) -> None:
    named = {"incident_name": "twice", "topic": "api"}
    client.post("/api/incidents", json=named)

    refused = client.post("/api/incidents", json=named)

    assert refused.status_code == 409
    assert refused.json()["type"] == "/problems/incident-exists"


def test_the_state_of_the_index_is_told(client: httpx2.Client, web_instance: Instance) -> None:
    web_instance.search("crash")

    state = client.get("/api/index").json()

    assert state["state"] == "valid"
    assert state["declared"]["name"] == "articles_embedding_hnsw_idx"
    assert state["uses"][0]["index"]["is_valid"]
    assert state["rows"]["total"] > 1500
    assert state["rows"]["without_vector"] == 0
    assert "articles_embedding_hnsw_idx" in state["plan_words"]
    assert not any(len(line) > 500 for line in state["plan_text"]), "the query vector is not shown"
    assert {"running", "holds", "proofs"} <= set(state["verification"])


def test_every_documented_operation_is_described(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()

    assert set(document["paths"]) == {
        "/api/search", "/api/search/many", "/api/similar", "/api/article", "/api/facets", "/api/incidents", "/api/index",
        "/api/collections", "/api/collections/{name}/search", "/api/collections/{name}/rows",
        "/api/collections/{name}/similar", "/api/collections/{name}/row", "/api/collections/{name}/index",
        "/api/export", "/api/collections/{name}/export",
        "/api/incident", "/api/incident/links", "/api/incident/notes", "/api/article/incidents",
        "/api/saved", "/api/saved/{name}", "/api/saved/{name}/newest", "/api/articles", "/api/articles/expiry",
        "/livez", "/readyz", "/-/versions",
    }  # fmt: skip
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
            assert operation.get("description"), (path, method)


def test_the_short_way_to_a_handler_answers_as_the_long_one(client: httpx2.Client, web_instance: Instance) -> None:
    """GET /api/search goes past FastAPI's layers; nobody can tell."""

    def long_way(query: bytes) -> tuple[int, dict[str, str], Any]:
        app = create_app(web_instance)
        messages: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": "GET", "path": "/api/search", "raw_path": b"/api/search", "scheme": "http",
                 "query_string": query, "headers": [(b"host", b"localhost")], "http_version": "1.1", "root_path": "",
                 "server": ("a", 80), "client": ("a", 1), "state": {}, "asgi": {"version": "3.0"}}  # fmt: skip
        in_a_loop(FastAPI.__call__(app, scope, receive, send))
        headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        return messages[0]["status"], headers, json.loads(messages[1]["body"])

    changing = {"x-request-id", "date", "content-length"}
    for query in ("q=crash&k=3", "q=crash&k=3&mode=keyword", "q=crash&k=0", "q=&k=3", "k=many", "q=a&vector=AAAA"):
        answer = client.get(f"/api/search?{query}")
        status, headers, content = long_way(query.encode())
        assert answer.status_code == status
        assert {k: v for k, v in answer.headers.items() if k not in changing} == {
            k: v for k, v in headers.items() if k not in changing
        }
        ours, theirs = answer.json(), content
        for one in (ours, theirs):
            one.pop("elapsed_ms", None)
            one.pop("request_id", None)
        assert ours == theirs
