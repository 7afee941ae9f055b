"""One attempt at a task or a part of one, from the queue's delivery to its commit; does not use Flask."""
