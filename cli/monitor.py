"""Commands for what is watched."""

from typing import Annotated

import typer

from cli.output import parse_date, print_json, print_table

app = typer.Typer(help="Drift: features now against those that a model was trained on.", no_args_is_help=True)


@app.command()
def report(
    model: Annotated[str, typer.Option(help="NAME@VERSION, NAME or a pointer.")] = "champion",
    at: Annotated[str, typer.Option(help="Features as of this time.")] = "now",
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Write a drift report and say what drifted."""
    from runtime.reports import report_drift
    from storage.settings import Settings

    moment = parse_date(at)
    assert moment is not None
    summary = report_drift(Settings(), model=model, at=moment)
    if json:
        print_json(summary)
        return
    columns = ("column", "score", "floor", "drifted", "alarm", "note")
    print_table(columns, [[row[name] for name in columns] for row in summary["columns"]])
    compared = sum(row["score"] is not None for row in summary["columns"])
    told = f"{summary['drifted']} of {compared} compared features drifted"
    if compared < len(summary["columns"]):
        told += f", {len(summary['columns']) - compared} were not compared (see the notes)"
    typer.echo(f"{told}; {summary['html']}")


@app.command()
def console(port: Annotated[int, typer.Option(min=1, max=65535, help="Port on loopback.")] = 8002) -> None:
    """Show experiments, models, drift, segments, alerts and jobs as pages, until Ctrl-C; log in with an API key."""
    import uvicorn

    from monitoring.console.app import create_console
    from storage.settings import Settings

    typer.echo(f"http://127.0.0.1:{port}")
    uvicorn.run(create_console(Settings()), host="127.0.0.1", port=port, log_level="warning", access_log=False)


@app.command()
def ui(port: Annotated[int, typer.Option(min=1, max=65535, help="Port on loopback.")] = 8001) -> None:
    """Show the reports in Evidently's own pages, until Ctrl-C."""
    from monitoring.ui import serve_ui
    from storage.settings import Settings

    serve_ui(Settings(), port=port)
