"""What runs beside the pipeline: Prefect's server, workers, the web app, an S3 server."""
