"""A served instance."""

from web_fixtures import client, web_instance, web_url
