"""Requests made up from the OpenAPI documents, good and bad: never a server error, never another form than declared."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

from serving.applications import create_collector, create_recommender
from serving.edge import Limits
from storage.control import ControlStore, Scope
from storage.features import apply_feature_repo
from storage.settings import Settings
from tests.serving.conftest import running

MAX_EXAMPLES = 15
LEFT_OUT = [
    # tests/serving/test_openapi.py tries every route with every kind of key.
    ignored_auth,
    # What a document cannot say is refused with a reason: ids are printable, a message names a person.
    positive_data_acceptance,
]
TAKEN_IN_PARTS = ("/items", "/batch")
"""Of a request with many, the good ones are taken, and the answer says what is wrong with each of the others."""
STREAM = "/api/v1/segments/stream"
"""Left out: its answer goes on as long as the client stays, so there is no whole answer to hold against a schema."""
LIMITS = Limits(max_body_bytes=256 * 1024, timeout_s=30.0)
"""Room for the slowest machine: how long an answer takes is not what is looked at here."""


@dataclass(frozen=True)
class Site:
    """An application, and what it says of itself."""

    client: httpx.Client
    document: Any


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return an installation whose features are registered."""
    made = Settings(home=tmp_path_factory.mktemp("schemathesis") / "var")
    apply_feature_repo(made)
    return made


@pytest.fixture(scope="module", params=[create_collector, create_recommender], ids=["collector", "recommender"])
def site(request: pytest.FixtureRequest, home: Settings) -> Iterator[Site]:
    """Return one application after the other."""
    app = request.param(home, limits=LIMITS)
    with running(app) as client:
        with ControlStore(home.control_url) as control:
            _, secret = control.create_key("all", list(Scope), datetime.now(UTC))
        client.headers["Authorization"] = f"Bearer {secret}"
        yield Site(client, schemathesis.openapi.from_dict(app.openapi()).exclude(path=STREAM))


@pytest.mark.parametrize("mode", GenerationMode)
def test_every_operation_answers_as_declared(site: Site, mode: GenerationMode) -> None:
    for found in site.document.get_all_operations():
        try:
            examine(site, found.ok().as_strategy(generation_mode=mode))
        except Unsatisfiable:
            # Nothing can be wrong with a request that has no parameters.
            assert mode is GenerationMode.NEGATIVE


def examine(site: Site, cases: Any) -> None:
    """Send what ``cases`` makes up, and hold the answers against every check."""

    @settings(max_examples=MAX_EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def send(case: Any) -> None:
        made = requests.Request(**case.as_transport_kwargs(base_url="http://test")).prepare()
        answer = site.client.request(str(made.method), str(made.url), content=made.body, headers=dict(made.headers))
        answer.elapsed = timedelta()  # Not known without a socket, and asked for.
        partly = [negative_data_rejection] if case.path.endswith(TAKEN_IN_PARTS) else []
        case.validate_response(answer, excluded_checks=LEFT_OUT + partly)

    send()
