"""The Cloud Tasks emulator reads queue.yaml as gcloud does."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path

import pytest

from gaetk_longtask.dev.tasks_emulator.messages import Message, Queue
from gaetk_longtask.dev.tasks_emulator.queue_yaml import QueueYamlError, QueueYamlWatch, parse, read


def parsed(entry: str) -> Message:
    return parse(f"queue: [{{name: q, {entry}}}]").queues["q"]


def retry(parameters: str) -> Message:
    return parsed(f"rate: 1/s, retry_parameters: {{{parameters}}}").retry_config


def test_what_is_missing_gets_the_defaults_of_the_cloud_sdk():
    queue = parsed("rate: 5/s")

    assert queue.rate_limits.max_dispatches_per_second == 5
    assert (queue.rate_limits.max_burst_size, queue.rate_limits.max_concurrent_dispatches) == (5, 1000)
    assert (queue.retry_config.max_attempts, queue.retry_config.max_doublings) == (-1, 16)
    assert queue.retry_config.min_backoff.ToTimedelta() == timedelta(seconds=0.1)
    assert queue.retry_config.max_backoff.ToTimedelta() == timedelta(hours=1)
    assert queue.retry_config.max_retry_duration.ToTimedelta() == timedelta(0)
    assert not queue.HasField("app_engine_routing_override")


@pytest.mark.parametrize(
    ("rate", "per_second"), [("5/s", 5), ("10/m", 10 / 60), ("1/h", 1 / 3600), ("12/d", 12 / 86400), ("0.5/s", 0.5)]
)
def test_rates_are_read_in_every_unit(rate, per_second):
    assert parsed(f"rate: {rate}").rate_limits.max_dispatches_per_second == pytest.approx(per_second)


def test_bucket_and_concurrency_are_read():
    limits = parsed("rate: 5/s, bucket_size: 40, max_concurrent_requests: 3").rate_limits

    assert (limits.max_burst_size, limits.max_concurrent_dispatches) == (40, 3)


def test_a_truth_value_counts_as_a_number_as_it_does_for_googles_parser():
    assert parsed("rate: 5/s, bucket_size: true").rate_limits.max_burst_size == 1


@pytest.mark.parametrize(("given", "taken"), [(-3, 1), (0, 1000), (9999, 5000)])
def test_concurrency_out_of_range_is_moved_into_it(given, taken):
    limits = parsed(f"rate: 5/s, max_concurrent_requests: {given}").rate_limits

    assert limits.max_concurrent_dispatches == taken


@pytest.mark.parametrize(("limit", "attempts"), [(0, 1), (7, 8)])
def test_the_retry_limit_does_not_count_the_first_attempt(limit, attempts):
    assert retry(f"task_retry_limit: {limit}").max_attempts == attempts


def test_an_age_limit_alone_leaves_the_attempts_unlimited():
    config = retry("task_age_limit: 2d")

    assert (config.max_attempts, config.max_retry_duration.ToTimedelta()) == (-1, timedelta(days=2))


@pytest.mark.parametrize(
    ("parameters", "shortest", "longest"),
    [
        ("min_backoff_seconds: 10, max_backoff_seconds: 200", 10, 200),
        ("min_backoff_seconds: 7200", 7200, 7200),
        ("max_backoff_seconds: 0.05", 0.05, 0.05),
    ],
)
def test_a_default_back_off_gives_way_to_the_one_that_is_given(parameters, shortest, longest):
    config = retry(parameters)

    assert config.min_backoff.ToTimedelta() == timedelta(seconds=shortest)
    assert config.max_backoff.ToTimedelta() == timedelta(seconds=longest)


@pytest.mark.parametrize(("given", "taken"), [(3, 3), (0, 16)])
def test_no_doublings_counts_as_not_given(given, taken):
    assert retry(f"max_doublings: {given}").max_doublings == taken


@pytest.mark.parametrize(("target", "service", "version"), [("worker", "worker", ""), ("v2.worker", "worker", "v2")])
def test_a_target_overrides_the_routing_of_tasks(target, service, version):
    routing = parsed(f"rate: 1/s, target: {target}").app_engine_routing_override

    assert (routing.service, routing.version) == (service, version)


@pytest.mark.parametrize("rate", ["0", "0/s"])
def test_a_rate_of_nothing_pauses_the_queue(rate):
    assert parsed(f"rate: '{rate}'").state == Queue.PAUSED


@pytest.mark.parametrize(("text", "resume"), [("", True), ("resume_paused_queues: True", True)])
def test_paused_queues_are_resumed(text, resume):
    assert parse(f"queue: [{{name: q, rate: 1/s}}]\n{text}").resume_paused is resume


def test_paused_queues_can_be_left_paused():
    assert not parse("resume_paused_queues: False\nqueue: [{name: q, rate: 1/s}]").resume_paused


def test_pull_queues_are_left_out(caplog):
    assert parse("queue: [{name: q, mode: pull}]").queues == {}
    assert "q is a pull queue" in caplog.text


def test_a_file_without_queues_is_one():
    assert parse("queue:").queues == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "queue: [{name: q}]",
        "queue: [{name: '', rate: 1/s}]",
        f"queue: [{{name: {'q' * 101}, rate: 1/s}}]",
        "queue: [{name: q, rate: 501/s}]",
        "queue: [{name: q, rate: x}]",
        "queue: [{name: 'a b', rate: 1/s}]",
        "queue: [{name: q, rate: 1/s, bucket_size: 501}]",
        "queue: [{name: q, rate: 1/s, bucket_size: -1}]",
        "queue: [{name: q, rate: 1/s, nonsense: 1}]",
        "queue: [{name: q, rate: 1/s, retry_parameters: {task_retry_limit: -1}}]",
        "queue: [{name: q, rate: 1/s, retry_parameters: {task_age_limit: 0s}}]",
        "queue: [{name: q, rate: 1/s, retry_parameters: {min_backoff_seconds: -1}}]",
        "queue: [{name: q, rate: 1/s, retry_parameters: {min_backoff_seconds: 2, max_backoff_seconds: 1}}]",
        "queue: [{name: q, rate: 1/s, retry_parameters: {max_doublings: 9999999999}}]",
        "queue: [{name: q, rate: 1/s, retry_parameters: {max_backoff_seconds: .inf}}]",
        "queue: [",
        "queue: [{name: q, rate: 1/s}]\n---\nqueue: [{name: q, rate: 1/s}]",
    ],
)
def test_what_gcloud_refuses_is_refused_with_the_name_of_the_file(tmp_path, text):
    path = tmp_path / "queue.yaml"
    path.write_text(text)

    with pytest.raises(QueueYamlError, match=r"queue\.yaml: \S"):
        read(path)


@pytest.mark.parametrize("text", ["- name: q\n  rate: 1/s", "- q", "[]", "nonsense", "5"])
def test_queues_without_the_name_queue_are_refused(tmp_path, text):
    path = tmp_path / "queue.yaml"
    path.write_text(text)

    with pytest.raises(QueueYamlError, match=r"queue\.yaml: the queues must be a list below the name queue$"):
        read(path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("queue:\n  name: q", 2),
        ("queue:\n- name: {a: b}\n  rate: 1/s", 2),
        ("queue:\n- name: q\n  rate: 1/s\n  max_concurrent_requests: {a: 1}", 4),
        ("queue:\n- name: q\n  rate: 1/s\n  acl: {a: b}", 4),
        ("{a: b}: c", 1),
    ],
)
def test_a_value_of_an_unexpected_type_is_named_with_its_line(tmp_path, text, line):
    path = tmp_path / "queue.yaml"
    path.write_text(text)

    with pytest.raises(
        QueueYamlError, match=rf"queue\.yaml: a value is not of the type that is expected there in .*, line {line},"
    ):
        read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(QueueYamlError, match=r"queue\.yaml: No such file"):
        read(tmp_path / "queue.yaml")


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "queue.yaml"
    path.write_text("queue: [{name: q, rate: 1/s}]")
    return path


def test_a_file_that_stays_as_it_is_is_not_read_again(file):
    watch = QueueYamlWatch(file)

    assert watch.changed() is None


def test_a_changed_file_is_read_once(file):
    watch = QueueYamlWatch(file)
    file.write_text("queue: [{name: other, rate: 1/s}]")

    changed = watch.changed()

    assert changed is not None
    assert list(changed.queues) == ["other"]
    assert watch.changed() is None


def test_a_file_that_is_replaced_by_another_of_the_same_size_and_time_is_read(file, tmp_path):
    stat = file.stat()
    watch = QueueYamlWatch(file)
    new = tmp_path / "new"
    new.write_text("queue: [{name: r, rate: 1/s}]")
    os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    new.rename(file)

    changed = watch.changed()

    assert changed is not None
    assert list(changed.queues) == ["r"]


def test_a_file_that_breaks_or_goes_away_changes_nothing_until_it_is_good_again(file, caplog):
    watch = QueueYamlWatch(file)
    with caplog.at_level(logging.ERROR):
        file.write_text("queue: [")
        assert watch.changed() is None
        file.unlink()
        assert watch.changed() is None
    assert caplog.text.count("the queues stay as they are") == 2

    file.write_text("queue: [{name: q, rate: 2/s}]")
    assert watch.changed() is not None
