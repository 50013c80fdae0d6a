"""A served instance and a browser."""

from roles_of_tests import as_owner
from web_fixtures import browser, client, web_instance, web_url
