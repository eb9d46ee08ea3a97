"""A small application behind Serve and HAProxy, as `bespoke up` starts them: ``python serve_site.py PORT [PORT PEM]``.

It says ``ready``, and ends when its standard input does.
"""

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request

from serving.haproxy import Https
from serving.ingress import ingress_env, make_ingress_folder

app = FastAPI()


@app.get("/seen")
async def seen(request: Request) -> dict[str, object]:
    """Return what of the request's headers came through, and what Serve knows of the request."""
    from ray.serve.context import _get_serve_request_context

    context = _get_serve_request_context()
    serve = {"request_id": context.request_id, "model": context.multiplexed_model_id, "session": context.session_id}
    return {"headers": dict(request.headers), "serve": serve}


@app.get("/fail")
async def fail() -> None:
    """Raise what nobody should read."""
    raise ValueError("alice" + "@example.org")


def main(http_port: int, https: Https | None) -> None:
    """Serve until the standard input ends."""
    make_ingress_folder(http_port, https=https)
    os.environ.update(ingress_env(http_port))
    import ray
    from ray import serve

    class Site:
        def __serve_build_asgi_app__(self) -> FastAPI:
            return app

    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(http_options={"host": "127.0.0.1", "port": http_port})
    deployment: Any = serve.deployment(serve.ingress()(Site), ray_actor_options={"num_cpus": 0})
    serve.run(deployment.bind())
    while httpx.get(f"http://127.0.0.1:{http_port}/seen").status_code != 200:
        # HAProxy learns of the replica a moment after Serve does.
        time.sleep(0.05)
    print("ready", flush=True)
    sys.stdin.read()
    serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()


if __name__ == "__main__":
    plain, *tls = sys.argv[1:]
    main(int(plain), Https("127.0.0.1", int(tls[0]), Path(tls[1]), "127.0.0.1") if tls else None)
