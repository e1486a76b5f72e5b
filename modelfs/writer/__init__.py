"""Bytes into chunks into manifests: staging, cutting, uploading."""
