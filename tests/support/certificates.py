"""Certificates of the tests' own, for this machine, trusted by nobody else."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """A certificate for ``localhost`` and ``127.0.0.1`` that signs itself."""

    public: Path
    """The certificate, which is also what to trust."""
    key: Path
    both: Path
    """Key and certificate in one file, as HAProxy wants them."""


def make_certificate(folder: Path) -> Certificate:
    """Make one in ``folder``."""
    made = Certificate(folder / "public.pem", folder / "key.pem", folder / "both.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", made.key, "-out", made.public], check=True, capture_output=True)
    made.both.write_bytes(made.key.read_bytes() + made.public.read_bytes())
    return made
