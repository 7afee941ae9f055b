"""Looks for what stands between an application and its long-running tasks, and says what to do about it."""

from gaetk_longtask.operators.doctor.admin_api import AdminApi
from gaetk_longtask.operators.doctor.examination import examine
from gaetk_longtask.operators.doctor.findings import Finding, Outcome

__all__ = ["AdminApi", "Finding", "Outcome", "examine"]
