"""The sample application: imports invoices and reports on them, with ``gaetk_longtask``."""
