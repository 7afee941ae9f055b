"""How the Cloud Tasks emulator checks and completes the settings of a queue. Errors were recorded in production."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from gaetk_longtask.dev.tasks_emulator.errors import CallError
from gaetk_longtask.dev.tasks_emulator.messages import Queue
from gaetk_longtask.dev.tasks_emulator.settings import created, parse_state_filter, updated
from tests.dev.unit.tasks_emulator.messages import PARENT, queue

NAME = f"{PARENT}/queues/q"


def seconds(duration: Duration) -> float:
    return duration.ToTimedelta().total_seconds()


def test_a_queue_without_settings_gets_productions_defaults():
    made = created(queue(), NAME)

    assert (made.rate_limits.max_dispatches_per_second, made.rate_limits.max_burst_size) == (500, 100)
    assert made.rate_limits.max_concurrent_dispatches == 1000
    assert (made.retry_config.max_attempts, made.retry_config.max_doublings) == (100, 16)
    assert (seconds(made.retry_config.min_backoff), seconds(made.retry_config.max_backoff)) == (0.1, 3600)
    assert seconds(made.retry_config.max_retry_duration) == 0
    assert made.state == Queue.RUNNING


def test_what_is_output_only_is_not_taken_from_the_caller():
    given = queue(state=Queue.PAUSED, rate_limits={"max_burst_size": 400}, purge_time={"seconds": 5})

    made = created(given, NAME)

    assert made.state == Queue.RUNNING
    assert made.rate_limits.max_burst_size == 100
    assert not made.HasField("purge_time")


@pytest.mark.parametrize(("rate", "burst"), [(0.001, 10), (10, 10), (40.5, 40), (500, 100)])
def test_the_bucket_size_follows_the_rate(rate, burst):
    assert created(queue(rate_limits={"max_dispatches_per_second": rate}), NAME).rate_limits.max_burst_size == burst


@pytest.mark.parametrize(
    ("given", "shortest", "longest"),
    [
        ({"min_backoff": {"seconds": 7200}}, 7200, 7200),
        ({"max_backoff": {"nanos": 50_000_000}}, 0.05, 0.05),
        ({"max_backoff": {"seconds": 0}}, 0, 0),
    ],
)
def test_a_default_back_off_gives_way_to_the_one_that_is_given(given, shortest, longest):
    retry = created(queue(retry_config=given), NAME).retry_config

    assert (seconds(retry.min_backoff), seconds(retry.max_backoff)) == (shortest, longest)


def test_unlimited_attempts_are_kept():
    assert created(queue(retry_config={"max_attempts": -1}), NAME).retry_config.max_attempts == -1


def test_the_longest_duration_of_retries_is_cut_to_seconds():
    given = queue(retry_config={"max_retry_duration": {"seconds": 5, "nanos": 999_000_000}})

    assert created(given, NAME).retry_config.max_retry_duration == Duration(seconds=5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate_limits": {"max_dispatches_per_second": -1}}, "RateLimits.maxDispatchesPerSecond cannot be negative."),
        (
            {"rate_limits": {"max_dispatches_per_second": 500.5}},
            "RateLimits.maxDispatchesPerSecond must be less than or equal to 500.",
        ),
        (
            {"rate_limits": {"max_dispatches_per_second": float("nan")}},
            "RateLimits.maxDispatchesPerSecond must be less than or equal to 500.",
        ),
        (
            {"rate_limits": {"max_concurrent_dispatches": -1}},
            "RateLimits.maxConcurrentDispatches cannot be negative.",
        ),
        (
            {"rate_limits": {"max_concurrent_dispatches": 5001}},
            "RateLimits.maxConcurrentDispatches must be less than or equal to 5000.",
        ),
        ({"retry_config": {"max_attempts": -2}}, "RetryConfig.maxAttempts must be greater or equal to -1."),
        ({"retry_config": {"max_doublings": -1}}, "RetryConfig.maxDoublings cannot be negative."),
        ({"retry_config": {"min_backoff": {"seconds": -1}}}, "RetryConfig.minBackoff cannot be negative."),
        (
            {"retry_config": {"min_backoff": {"seconds": 2}, "max_backoff": {"seconds": 1}}},
            "RetryConfig.minBackoff must be less than or equal to RetryConfig.maxBackoff.",
        ),
        (
            {"retry_config": {"max_backoff": {"seconds": 10**12}}},
            "RetryConfig.maxBackoff is not a valid duration.",
        ),
        (
            {"app_engine_routing_override": {"service": "a b"}},
            '"a b" is not the name of an App Engine service, version or instance.',
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(CallError) as refused:
        created(queue(**settings), NAME)

    assert (refused.value.code, refused.value.message) == (grpc.StatusCode.INVALID_ARGUMENT, message)


def test_an_http_target_of_a_queue_is_refused_rather_than_ignored():
    with pytest.raises(CallError) as refused:
        created(queue(http_target={"http_method": 1}), NAME)

    assert refused.value.code is grpc.StatusCode.UNIMPLEMENTED


OLD = created(
    queue(
        rate_limits={"max_dispatches_per_second": 5, "max_concurrent_dispatches": 7},
        retry_config={"max_attempts": 3, "max_doublings": 4},
        app_engine_routing_override={"service": "worker"},
    ),
    NAME,
)


def test_a_mask_of_a_sub_field_changes_nothing_else():
    given = queue(rate_limits={"max_dispatches_per_second": 50, "max_concurrent_dispatches": 99})

    new = updated(OLD, given, ["rate_limits.max_dispatches_per_second"])

    assert (new.rate_limits.max_dispatches_per_second, new.rate_limits.max_concurrent_dispatches) == (50, 7)
    assert new.retry_config == OLD.retry_config
    assert new.app_engine_routing_override == OLD.app_engine_routing_override


def test_an_update_derives_the_bucket_size_from_the_rate_again():
    old = Queue()
    old.CopyFrom(OLD)
    old.rate_limits.max_burst_size = 5  # as queue.yaml sets it

    assert updated(old, queue(retry_config={"max_attempts": 9}), ["retry_config"]).rate_limits.max_burst_size == 10


def test_a_mask_of_a_message_replaces_all_of_it():
    new = updated(OLD, queue(retry_config={"max_attempts": 9}), ["retry_config"])

    assert (new.retry_config.max_attempts, new.retry_config.max_doublings) == (9, 16)
    assert new.rate_limits == OLD.rate_limits


@pytest.mark.parametrize("paths", [[], ["*"]])
def test_an_empty_mask_replaces_everything(paths):
    new = updated(OLD, queue(retry_config={"max_attempts": 9}), paths)

    assert new == created(queue(retry_config={"max_attempts": 9}), NAME)


def test_a_masked_field_that_is_not_given_gets_its_default():
    new = updated(OLD, queue(), ["retry_config.max_attempts", "app_engine_routing_override"])

    assert new.retry_config.max_attempts == 100
    assert not new.HasField("app_engine_routing_override")


def test_no_doublings_can_be_asked_for_by_name_and_outlast_other_updates():
    linear = updated(OLD, queue(), ["retry_config.max_doublings"])
    later = updated(linear, queue(rate_limits={"max_dispatches_per_second": 1}), ["rate_limits"])

    assert (linear.retry_config.max_doublings, later.retry_config.max_doublings) == (0, 0)


def test_output_only_fields_in_a_mask_are_ignored():
    given = queue(state=Queue.PAUSED, rate_limits={"max_burst_size": 1})

    assert updated(OLD, given, ["state", "rate_limits.max_burst_size", "name", "purge_time"]) == OLD


@pytest.mark.parametrize("path", ["nonsense", "rate_limits.nonsense", "rate_limits.", "name.x", "retry_config.a.b"])
def test_a_mask_of_an_unknown_field_is_refused(path):
    with pytest.raises(CallError, match="Invalid field in the update mask"):
        updated(OLD, queue(), [path])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", None),
        ("state: PAUSED", (Queue.PAUSED, True)),
        ('state="RUNNING"', (Queue.RUNNING, True)),
        ("state != DISABLED", (Queue.DISABLED, False)),
    ],
)
def test_queues_are_filtered_by_state(text, wanted):
    assert parse_state_filter(text) == wanted


def test_other_filters_are_refused_rather_than_ignored():
    with pytest.raises(CallError, match="by state alone"):
        parse_state_filter("name:x")
