"""Where bytes rest: one interface each, embedded by default."""
