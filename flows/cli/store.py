"""``nanochat store``: an S3 server of one's own."""

from __future__ import annotations

from pathlib import Path

from flows.settings import Settings

BUCKET = "nanochat"


def serve(*, folder: Path | None = None, host: str = "127.0.0.1", port: int = 8333) -> int:
    """Run a small S3 server (SeaweedFS) until Ctrl-C, and say how to use it.

    Parameters
    ----------
    folder
        Where its files and keys are; default: s3-server/ in the home folder.
    host
        The address to listen on. Any but 127.0.0.1 lets other machines in, who need the keys.
    port
        The port of the S3 protocol.
    """
    from flows.services.s3_server import S3Server

    with S3Server(folder or Settings().home / "s3-server", host=host, port=port) as server:
        server.make_bucket(BUCKET)
        print(
            f"S3 server at {server.environment['AWS_ENDPOINT_URL']}, files in {server.folder}. To use it:\n"
        )
        for name, value in {**server.environment, "NANOCHAT_STORE": f"s3://{BUCKET}/store"}.items():
            print(f"export {name}={value}")
        print("\nCtrl-C stops it.", flush=True)
        return server.wait()
