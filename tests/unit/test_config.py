"""The settings are validated once. The messages name the mistake and the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from gaetk_longtask.config import Config, find_location, need_project
from gaetk_longtask.exceptions import ConfigurationError


def read(settings: dict[str, Any] | None = None, **environ: str) -> Config:
    return Config.from_mapping(settings or {}, environ)


def test_all_settings_are_optional() -> None:
    config = read()
    assert config == Config(queue="default", progress_url="datastore:")


def test_settings_of_others_are_ignored() -> None:
    assert read({"SECRET_KEY": "x", "DEBUG": True, "longtask_queue": "y"}) == Config()


def test_a_setting_is_used() -> None:
    config = read({"LONGTASK_PROJECT": "shop", "LONGTASK_LOCATION": "europe-west3", "LONGTASK_QUEUE": "slow"})
    assert (config.project, config.location, config.queue) == ("shop", "europe-west3", "slow")


def test_none_means_not_set() -> None:
    assert read({"LONGTASK_QUEUE": None, "LONGTASK_PROJECT": None}, GOOGLE_CLOUD_PROJECT="shop") == Config(
        project="shop"
    )


def test_an_unknown_key_is_refused_and_a_similar_one_is_suggested() -> None:
    with pytest.raises(
        ConfigurationError, match=r"no setting LONGTASK_QUEUES\. Did you mean LONGTASK_QUEUE\?"
    ) as caught:
        read({"LONGTASK_QUEUES": "slow"})
    assert caught.value.key == "LONGTASK_QUEUES"


def test_an_unknown_key_is_refused_whatever_its_value() -> None:
    with pytest.raises(ConfigurationError, match="LONGTASK_QUEUES"):
        read({"LONGTASK_QUEUES": None})


def test_an_unknown_key_without_a_similar_one_is_refused_with_the_list_of_all() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read({"LONGTASK_ZZZZZZZZZZZZZZZZ": "x"})
    assert "Did you mean" not in str(caught.value)
    assert "LONGTASK_PROJECT, LONGTASK_LOCATION, LONGTASK_QUEUE" in str(caught.value)


@pytest.mark.parametrize("name", ["PROJECT", "LOCATION", "QUEUE", "SERVICE", "VERSION", "PROGRESS_URL", "BASE_URL"])
@pytest.mark.parametrize("value", ["", "  ", 5, True, b"default", ["default"]])
def test_a_setting_that_is_no_text_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"LONGTASK_{name} must be a non-empty string") as caught:
        read({f"LONGTASK_{name}": value})
    assert caught.value.key == f"LONGTASK_{name}"


@pytest.mark.parametrize("name", ["my queue", "my_queue", "a/b", "größe", "x" * 101, "a\n"])
@pytest.mark.parametrize("key", ["LONGTASK_QUEUE", "LONGTASK_SERVICE"])
def test_a_name_that_google_cloud_refuses_is_refused(key: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{key} must be the name of a .*letters, digits and hyphens"):
        read({key: name})


@pytest.mark.parametrize("value", [True, "anna", ""])
def test_the_setting_that_says_who_is_asking_must_be_a_function(value: object) -> None:
    with pytest.raises(ConfigurationError, match="LONGTASK_USER must be a function that returns who has sent"):
        read({"LONGTASK_USER": value})


def test_a_function_decides_who_may_see_the_overview() -> None:
    def is_admin() -> bool:
        return False

    assert read({"LONGTASK_ADMIN": is_admin}).admin is is_admin


@pytest.mark.parametrize("value", [True, "admin@example.com", ""])
def test_the_setting_for_the_overview_must_be_a_function(value: object) -> None:
    with pytest.raises(ConfigurationError, match="LONGTASK_ADMIN must be a function"):
        read({"LONGTASK_ADMIN": value})


# Values from the platform.


def test_on_the_local_stack_everyone_may_see_the_overview_unless_the_setting_decides() -> None:
    local = read(GAE_ENV="localdev").admin
    assert local is not None
    assert local() is True
    assert read(GAE_ENV="standard").admin is None
    assert read().admin is None

    def is_admin() -> bool:
        return False

    assert read({"LONGTASK_ADMIN": is_admin}, GAE_ENV="localdev").admin is is_admin


def test_project_service_and_version_are_those_of_the_instance() -> None:
    config = read(GOOGLE_CLOUD_PROJECT="shop", GAE_SERVICE="web", GAE_VERSION="v7")
    assert (config.project, config.service, config.version) == ("shop", "web", "v7")


def test_a_setting_wins_over_the_platform() -> None:
    config = read(
        {"LONGTASK_PROJECT": "other", "LONGTASK_VERSION": "v1"},
        GOOGLE_CLOUD_PROJECT="shop",
        GAE_SERVICE="web",
        GAE_VERSION="v7",
    )
    assert (config.project, config.service, config.version) == ("other", "web", "v1")


def test_the_instances_version_does_not_belong_to_another_service() -> None:
    config = read({"LONGTASK_SERVICE": "worker"}, GAE_SERVICE="web", GAE_VERSION="v7")
    assert (config.service, config.version) == ("worker", None)


def test_the_instances_version_belongs_to_its_own_service_even_if_that_is_set() -> None:
    config = read({"LONGTASK_SERVICE": "web"}, GAE_SERVICE="web", GAE_VERSION="v7")
    assert (config.service, config.version) == ("web", "v7")


def test_another_services_version_can_be_set() -> None:
    config = read({"LONGTASK_SERVICE": "worker", "LONGTASK_VERSION": "v1"}, GAE_SERVICE="web", GAE_VERSION="v7")
    assert (config.service, config.version) == ("worker", "v1")


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        ("10.0.0.1:11211", "memcached://10.0.0.1:11211"),
        ("10.0.0.1:11211  10.0.0.2:11211 ", "memcached://10.0.0.1:11211,10.0.0.2:11211"),
        ("", "datastore:"),
        (" ", "datastore:"),
    ],
)
def test_progress_goes_to_the_memcache_that_ndb_uses(hosts: str, url: str) -> None:
    assert read(MEMCACHED_HOSTS=hosts).progress_url == url


def test_a_progress_url_wins_over_ndbs_variable() -> None:
    assert read({"LONGTASK_PROGRESS_URL": "datastore:"}, MEMCACHED_HOSTS="10.0.0.1:11211").progress_url == "datastore:"


# The base URL.


@pytest.mark.parametrize("url", ["https://www.example.com", "https://www.example.com/"])
def test_a_base_url_is_scheme_and_host(url: str) -> None:
    assert read({"LONGTASK_BASE_URL": url}).base_url == "https://www.example.com"


def test_a_base_url_may_have_a_port() -> None:
    assert read({"LONGTASK_BASE_URL": "http://localhost:8080"}).base_url == "http://localhost:8080"


@pytest.mark.parametrize(
    "url",
    [
        "www.example.com",
        "//www.example.com",
        "ftp://www.example.com",
        "https://",
        "https://www.example.com/shop",
        "https://www.example.com/?a=b",
        "https://www.example.com/#top",
        "https://[::1",
    ],
)
def test_anything_else_is_no_base_url(url: str) -> None:
    with pytest.raises(ConfigurationError, match="LONGTASK_BASE_URL must be only scheme and host") as caught:
        read({"LONGTASK_BASE_URL": url})
    assert caught.value.key == "LONGTASK_BASE_URL"


# Values that are needed only for operations.


def test_the_project_is_the_known_one() -> None:
    assert need_project(Config(project="shop")) == "shop"


def test_the_message_about_a_missing_project_names_both_places_to_set_it() -> None:
    with pytest.raises(ConfigurationError, match=r"LONGTASK_PROJECT in app\.config, or GOOGLE_CLOUD_PROJECT") as caught:
        need_project(Config())
    assert caught.value.key == "LONGTASK_PROJECT"


def test_the_location_is_the_one_that_is_set() -> None:
    environ = {"CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:8123"}
    assert find_location(Config(location="europe-west3"), environ) == "europe-west3"
    assert find_location(Config(location="europe-west"), environ) == "europe-west1"  # App Engine's own name


def test_an_emulator_needs_no_location() -> None:
    assert find_location(Config(), {"CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:8123"})
