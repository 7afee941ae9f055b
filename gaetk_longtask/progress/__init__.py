"""The progress of a running task: reporter, snapshot, time estimate and stores."""
