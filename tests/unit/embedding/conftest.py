"""An environment without the settings of embedding models."""

from embedding_fixtures import _no_settings_from_outside
