"""Propensity: how likely a person is to buy, or to stay away, within some days. Scored from the profile alone.

signals.py      what is read of a profile
config.py       what one score is: the target, the horizon, and how its trees grow
quality.py      how good scores are, beside the best single signal
calibration.py  from what trees say to how often it happens
model.py        examples, fitting, scoring
bundle.py       a score on disk
"""
