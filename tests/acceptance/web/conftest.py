"""A served instance and a browser."""

from web_fixtures import browser, client, web_instance, web_url
