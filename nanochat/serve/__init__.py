"""The web app: pages about artifacts, made from a catalog that whoever starts it brings along."""
