# Stands in for redis:7: Debian's Redis 7, open to the network that it is in, data in /data.
ARG BASE
FROM ${BASE}
RUN apt-get update -q && apt-get install -y -q --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/* && install -d -o redis -g redis /data
WORKDIR /data
VOLUME /data
USER redis
EXPOSE 6379
# The public image is built without protected mode.
ENTRYPOINT ["/bin/sh", "-c", "shift; exec redis-server --protected-mode no \"$@\"", "redis"]
CMD ["redis-server"]
