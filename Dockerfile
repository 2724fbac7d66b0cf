# Tollkeeper's own services: `tollkeeper setup`, `tollkeeper run`, and the command line beside them.
# Any image that has Python 3.11 or newer with venv and pip can be the base.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /usr/src/tollkeeper
# Without pip in it: what runs needs none.
RUN python3 -m venv --without-pip /opt/tollkeeper
# Packages first, with their hashes: they change seldomer than the sources, so the layer is kept.
COPY requirements-server.lock ./
RUN python3 -m pip --python /opt/tollkeeper install --require-hashes -r requirements-server.lock
# Then Tollkeeper itself with nothing fetched: pip checks no hash of a directory.
COPY pyproject.toml README.md ./
COPY schemas ./schemas
COPY producers ./producers
COPY projections ./projections
COPY consumers ./consumers
RUN python3 -m pip --python /opt/tollkeeper install --no-deps --no-build-isolation . \
    && /opt/tollkeeper/bin/python -m compileall -q /opt/tollkeeper/lib

FROM ${BASE_IMAGE}
# A number of its own, so that a volume's files belong to nobody else on the machine.
RUN useradd --system --uid 10464 --user-group --no-create-home --shell /usr/sbin/nologin tollkeeper \
    && install -d -o tollkeeper -g tollkeeper -m 0750 /var/lib/tollkeeper
COPY --from=build /opt/tollkeeper /opt/tollkeeper
# Metrics and health: a container's own address is as private as its network.
ENV PATH=/opt/tollkeeper/bin:$PATH PYTHONUNBUFFERED=1 TOLLKEEPER_HOME=/var/lib/tollkeeper \
    TOLLKEEPER_HTTP=0.0.0.0:9464
EXPOSE 9464
USER tollkeeper
WORKDIR /var/lib/tollkeeper
VOLUME /var/lib/tollkeeper
# The signal that ends it by finishing what was begun.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tollkeeper"]
CMD ["run"]
