"""What web/http/protocol.py and web/serving.py rely on inside uvicorn, which promises none of it between minor releases."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

TRIED = "0.54."


def test_this_is_the_minor_release_that_it_was_tried_with() -> None:
    assert version("uvicorn").startswith(TRIED), (
        "look at the tests below and at web/http/protocol.py, then raise TRIED and the pin"
    )


def test_the_protocol_has_the_callbacks_that_ours_extends() -> None:
    for name in ("connection_made", "data_received", "on_message_begin", "on_headers_complete", "on_body",
                 "on_message_complete", "send_400_response", "shutdown"):  # fmt: skip
        assert name in vars(HttpToolsProtocol), name
    assert "self.app" in inspect.getsource(HttpToolsProtocol.on_headers_complete)
    assert "self.send_400_response" in inspect.getsource(HttpToolsProtocol.data_received)
    source = inspect.getsource(HttpToolsProtocol.__init__)
    for attribute in ("loop", "connections", "transport", "flow", "scope", "cycle", "app"):
        assert f"self.{attribute}" in source, attribute
    assert "self.url" in inspect.getsource(HttpToolsProtocol.on_url)


def test_a_cycle_tells_how_far_it_is_and_can_be_told_that_the_client_is_gone() -> None:
    source = inspect.getsource(RequestResponseCycle)
    for attribute in ("response_started", "response_complete", "disconnected", "message_event", "scope"):
        assert f"self.{attribute} = " in source, attribute
    assert "transport.is_closing()" in source


def test_the_server_ticks_ten_times_a_second_and_knows_its_connections() -> None:
    assert inspect.iscoroutinefunction(uvicorn.Server.on_tick)
    assert list(inspect.signature(uvicorn.Server.on_tick).parameters) == ["self", "counter"]
    assert "asyncio.sleep(0.1)" in inspect.getsource(uvicorn.Server.main_loop)
    assert ServerState().connections == set()
