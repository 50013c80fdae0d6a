"""An endpoint that embeds, and an environment without its settings."""

from embedding_fixtures import _no_settings_from_outside, _server, endpoint
