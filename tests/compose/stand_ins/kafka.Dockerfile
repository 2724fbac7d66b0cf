# Stands in for apache/kafka: the same jars, the same settings by KAFKA_* variables, the same user and folders.
ARG BASE
FROM ${BASE}
RUN apt-get update -q && apt-get install -y -q --no-install-recommends default-jre-headless \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --user-group --create-home appuser \
    && install -d -o appuser -g appuser /opt/kafka/config /var/lib/kafka/data /mnt/shared/config
COPY jars /opt/kafka/libs
COPY kafka-entrypoint /etc/kafka/docker/run
USER appuser
VOLUME /var/lib/kafka/data
EXPOSE 9092
CMD ["/etc/kafka/docker/run"]
