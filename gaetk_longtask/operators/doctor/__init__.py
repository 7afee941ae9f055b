"""Checks everything that an application's long-running tasks need, and says how to fix what is wrong."""

from gaetk_longtask.operators.doctor.admin_api import AdminApi
from gaetk_longtask.operators.doctor.examination import examine
from gaetk_longtask.operators.doctor.findings import Finding, Outcome

__all__ = ["AdminApi", "Finding", "Outcome", "examine"]
