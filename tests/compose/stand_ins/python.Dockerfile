# Stands in for python:3.11-slim-bookworm: Python with venv and pip.
ARG BASE
FROM ${BASE}
RUN apt-get update -q && apt-get install -y -q --no-install-recommends python3 python3-venv python3-pip \
    && rm -rf /var/lib/apt/lists/*
