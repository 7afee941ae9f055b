"""The sample application. It imports invoices and creates reports from them, with ``gaetk_longtask``."""
