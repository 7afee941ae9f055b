"""Tools for operators: the overview, the command line and the doctor."""
