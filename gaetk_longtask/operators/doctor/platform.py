"""Checks through Google's administration APIs: services and versions, TTL policies."""

from __future__ import annotations

import os
from collections.abc import Iterator

from gaetk_longtask.operators.doctor.admin_api import NoAnswerError
from gaetk_longtask.operators.doctor.findings import LOGIN, Finding, not_checked, ok, problem
from gaetk_longtask.operators.doctor.subject import Subject
from gaetk_longtask.queues import EMULATOR_VARIABLE

_KINDS = ("LongTask", "LongTaskChunk", "LongTaskPart", "LongTaskProgress", "LongTaskTraceback")


def check_services(subject: Subject) -> Iterator[Finding]:
    """Check that the services and versions that tasks go to are deployed."""
    project = subject.config.project
    ways = {(rule.service, rule.options.version) for rule in subject.rules}
    for service, version in sorted(ways, key=str):
        check = f"service {service}" + (f", version {version}" if version else "")
        if project is None:
            yield not_checked(check, "The project is not known.")
        elif os.environ.get(EMULATOR_VARIABLE):
            yield not_checked(check, "The Cloud Tasks emulator sends everything to one application.")
        else:
            yield _check_service(subject, check, project, service, version)


def _check_service(subject: Subject, check: str, project: str, service: str, version: str | None) -> Finding:
    try:
        if subject.admin.service(project, service) is None:
            return problem(
                check,
                f"{project} has no service {service}: its tasks go to the default service.",
                f"Deploy it, or correct LONGTASK_SERVICE or the handler's service = {service!r}. "
                f"gcloud app services list --project={project} shows the services.",
            )
        if version and subject.admin.service(project, service, version) is None:
            return problem(
                check,
                f"{service} has no version {version}.",
                "Remove LONGTASK_VERSION: then the version that started a task also works on it.",
            )
    except NoAnswerError as exc:
        return not_checked(check, str(exc), f"Run gcloud app services list --project={project}. {LOGIN}")
    return ok(check, "It is deployed.")


def check_ttl(subject: Subject) -> Iterator[Finding]:
    """Check that expired entities are deleted even if cron does not do it."""
    project = subject.config.project
    show = f"gcloud firestore fields ttls list --project={project or 'PROJECT'}"
    if os.environ.get("DATASTORE_EMULATOR_HOST"):
        yield not_checked("TTL policy", "An emulator has none.", f"In production: {show}.")
        return
    if project is None:
        yield not_checked("TTL policy", "The project is not known.")
        return
    try:
        without = [kind for kind in _KINDS if not _has_policy(subject.admin.field(project, kind, "expires_at"))]
    except NoAnswerError as exc:
        yield not_checked("TTL policy", str(exc), f"Run {show}. {LOGIN}")
        return
    if without:
        text = (
            f"{', '.join(without)} {'has' if len(without) == 1 else 'have'} none: what purge misses is never deleted."
        )
        update, options = "gcloud firestore fields ttls update expires_at", f"--enable-ttl --project={project}"
        commands = (f"{update} --collection-group={kind} {options}" for kind in without)
        yield problem("TTL policy", text, "; ".join(commands) + ".")
    else:
        yield ok("TTL policy", f"{', '.join(_KINDS)} are deleted when they expire.")


def _has_policy(field: object) -> bool:
    config = field.get("ttlConfig") if isinstance(field, dict) else None
    return isinstance(config, dict) and config.get("state") in ("ACTIVE", "CREATING")
