"""The reports in Evidently's own pages."""

import os

from storage.settings import Settings

LOOPBACK = "127.0.0.1"


def serve_ui(settings: Settings, *, port: int) -> None:
    """Show the workspace of reports at ``http://127.0.0.1:port`` until interrupted; nothing is sent to anybody.

    The pages have no log-in: they are for this machine alone.
    """
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently.ui.service.app import run_local

    workspace = settings.reports_dir / "workspace"
    workspace.mkdir(parents=True, exist_ok=True)
    run_local(host=LOOPBACK, port=port, workspace=str(workspace))
