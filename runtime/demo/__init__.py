"""The demo: real grocery purchases through the whole loop."""
