"""What knows Flask: handlers, visits, deliveries, pages."""
