"""What is added to the configuration that Serve writes for HAProxy, each time it does: a filter over its text.

The script that Serve starts in HAProxy's place runs this file as a program, before every start and reload. It reads
nothing but what it is given, and imports the standard library alone.

Decisions wait in HAProxy, in one queue for all replicas: whichever is free takes the next, a replica that dies takes
only those along that it was at work on, and to refuse costs some ten microseconds where it costs a replica hundreds.
A short stall makes a queue that is soon gone, so up to ``BURST`` wait, whatever time that takes. Where that is not
enough there is more to do than can be done: as long as something was refused within ``LATELY_S``, what would wait
longer than ``MAX_WAIT_S`` is refused at once. By Little's law that time is the requests in the queue over those begun
in a second.

Sources: J. Little, A proof for the queuing formula L = lambda W (1961); B. Maurer, "Fail at scale", ACM Queue 13
(2015); https://docs.haproxy.org/2.8/configuration.html (be_sess_rate, queue, stick-table, track-sc0, track, maxconn).
"""

import re
import sys
from pathlib import Path

DECISIONS = "decisions"
"""The backend of decisions: the recommender's replicas once more, each with a limit."""
RECOMMENDER = "http-recommender"
"""How Serve calls the recommender's backend."""
PATH = "/api/v1/recommendations"
AT_WORK = 2
"""Decisions in one replica: one is made, the next is there when it is done. A replica has one thread for them."""
MAX_WAIT_S = 0.025
BURST = 48
"""So many may wait where nothing was refused lately."""
LATELY_S = 2
GIVE_UP_S = 1
"""Nothing waits longer, even where all replicas hang."""
CONNECT_MS = 250
"""So long HAProxy also waits before it sends a request again whose replica has just turned out to be gone."""

_SIDE_PORT = re.compile(r"^( *bind )\*?(:\d+)$", re.MULTILINE)
_ERROR_FILE = re.compile(r"^( *errorfile 50[234] ).*$", re.MULTILINE)
_REQUEST_LOG = re.compile(r"^( *log \S+ local0) info$", re.MULTILINE)
_FIRST_ROUTE = re.compile(r"^ *use_backend ", re.MULTILINE)
_BACKEND = re.compile(rf"^backend {RECOMMENDER}\n((?: .*\n|\n)*)", re.MULTILINE)
_REPLICA = re.compile(r"^ *server (?!.* backup).*$", re.MULTILINE)


def completed(written: str, *, unavailable: Path, overloaded: Path) -> str:
    """Return a configuration of Serve's with side ports on loopback, no paths in logs, our errors, and a limit.

    Where Serve knows no replica of the recommender, as before the first has started, decisions have no backend yet.

    Args:
        written: what Serve wrote.
        unavailable: the whole answer where no process can answer.
        overloaded: the body of the answer to what would wait too long.
    """
    text = _SIDE_PORT.sub(r"\g<1>127.0.0.1\g<2>", written)
    text = _ERROR_FILE.sub(rf"\g<1>{unavailable}", text)
    # A line of each request would hold its path, and some paths hold the id of a person.
    text = _REQUEST_LOG.sub(r"\g<1> notice", text)
    found, route = _BACKEND.search(text), _FIRST_ROUTE.search(text)
    if found is None or route is None:
        return text
    text = f"{text[: route.start()]}{_route(overloaded)}{text[route.start() :]}"
    return f"{text.rstrip()}\n{_backend(found[1])}"


def _route(overloaded: Path) -> str:
    """Return the rules that send decisions to their backend, or refuse them. Refused ones do not count as begun."""
    queue, refused = f"queue({DECISIONS})", "{ var(txn.refused) -m bool }"
    answer = f"status 503 content-type application/json file {overloaded}"
    answer = f'{answer} hdr Retry-After 1 hdr X-Request-Id "%[uuid]"'
    return f"""\
    acl is_decision path {PATH}
    acl is_decision path_beg {PATH}/
    acl is_full {queue} ge {BURST}
    acl is_late {queue},mul({round(1 / MAX_WAIT_S)}),sub(txn.begun) gt 0
    acl refused_lately sc0_gpc0_rate gt 0
    http-request set-var(txn.begun) be_sess_rate({DECISIONS}) if is_decision
    http-request track-sc0 int(1) table {DECISIONS} if is_decision
    http-request set-var(txn.refused) bool(true) if is_decision is_full
    http-request set-var(txn.refused) bool(true) if is_decision is_late refused_lately
    http-request sc-inc-gpc0(0) if {refused}
    http-request return {answer} if {refused}
    use_backend {DECISIONS} if is_decision
"""


def _backend(recommender: str) -> str:
    """Return the recommender's backend once more, with its own checks, and a limit for all but the last resort."""
    limited = _REPLICA.sub(rf"\g<0> maxconn {AT_WORK}", recommender)
    return f"""\
backend {DECISIONS}
    timeout queue {GIVE_UP_S}s
    timeout connect {CONNECT_MS}ms
    stick-table type integer size 1 expire 10s store gpc0,gpc0_rate({LATELY_S}s)
{limited.rstrip()}
"""


def main() -> None:
    """Complete the configuration at the first path, with the files at the others."""
    path, unavailable, overloaded = map(Path, sys.argv[1:])
    path.write_text(completed(path.read_text(), unavailable=unavailable, overloaded=overloaded))


if __name__ == "__main__":
    main()
