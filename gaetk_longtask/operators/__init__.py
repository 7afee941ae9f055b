"""What operators use: the overview, the command line, the doctor."""
