"""From the log to profiles, online features and the lake; and from files to the log."""
