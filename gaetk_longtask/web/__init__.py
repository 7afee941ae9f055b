"""The part that uses Flask: handlers, visits, deliveries, pages."""
