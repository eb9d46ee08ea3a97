"""Rules: pin, boost, bury, exclude, cap and require on a ranked list; a closed grammar, nothing in it runs as code."""

from bespoke.rules.book import Applied, RuleBook, Ruled
from bespoke.rules.conflicts import conflicts, notices, unknown_segments
from bespoke.rules.grammar import load_rules, parse_rules
from bespoke.rules.rule import Boost, Bury, Cap, Exclude, Moment, Pin, Require, Rule, When

__all__ = [
    "Applied",
    "Boost",
    "Bury",
    "Cap",
    "Exclude",
    "Moment",
    "Pin",
    "Require",
    "Rule",
    "RuleBook",
    "Ruled",
    "When",
    "conflicts",
    "load_rules",
    "notices",
    "parse_rules",
    "unknown_segments",
]
