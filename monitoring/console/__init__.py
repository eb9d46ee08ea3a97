"""The console: what works and what does not, as pages for people. A process of its own, so that it costs no answer."""
