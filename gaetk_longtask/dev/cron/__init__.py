"""App Engine's cron on one machine: requests what ``cron.yaml`` lists, when it is due."""
