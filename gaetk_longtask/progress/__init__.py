"""What is known of a task at work: reporter, snapshot, estimate, and the stores."""
