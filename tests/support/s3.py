"""A real S3 server, versitygw over a folder, while a test needs it."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.session import get_session

from tests.cluster.local.build import ensure_binaries

from .ports import free_port
from .waiting import wait_until

ACCESS = "root-of-the-tests"
SECRET = "s3cret-of-the-tests"  # noqa: S105 - of a server on loopback


@dataclass(frozen=True, slots=True)
class Store:
    """Its address, and a client of its owner."""

    url: str
    client: Any
    data: Path
    """Where it keeps its buckets."""

    def put(self, bucket: str, files: dict[str, bytes], **how: str) -> None:
        self.client.create_bucket(Bucket=bucket)
        for key, body in files.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=body, **how)


@contextmanager
def s3_server(folder: Path, host: str = "127.0.0.1") -> Iterator[Store]:
    """Serve the buckets in `folder`/data."""
    program = ensure_binaries(lambda _: None, ("versitygw",)) / "versitygw"
    data = folder / "data"
    data.mkdir(parents=True)
    port = free_port(host)
    command = [
        str(program),
        "--port",
        f"{host}:{port}",
        "--access",
        ACCESS,
        "--secret",
        SECRET,
        "posix",
        str(data),
    ]
    with (folder / "versitygw.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"], "HOME": str(folder)}
        )
    try:
        url = f"http://{host}:{port}"
        client = get_session().create_client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )
        wait_until(lambda: _answers(host, port), seconds=60, what="versitygw answers", every=0.05)
        with closing(client):
            yield Store(url, client, data)
    finally:
        process.kill()
        process.wait()


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0
