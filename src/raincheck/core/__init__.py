"""Values and rules: what a job is, and what happens to it. Nothing here does I/O."""
