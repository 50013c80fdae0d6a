# The image of everindex: the application and its migrations, for your own PostgreSQL (or the embedded one, for a trial).
#
#   docker build -t everindex .
#
# Both stages use the same base by version and distribution. In your own build, pin its digest too
# (python:3.13-slim-trixie@sha256:...), since the current digest at the time of your build is not known here.

FROM python:3.13-slim-trixie AS builder
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build

# Dependencies are pinned by hash and installed first, so that a source change does not reinstall them.
COPY requirements.lock ./
RUN python -m venv --without-pip /opt/everindex \
    && python -m pip --python /opt/everindex/bin/python install --require-hashes -r requirements.lock

COPY pyproject.toml README.md LICENSE NOTICE alembic.ini ./
COPY alembic/ alembic/
COPY docs/ docs/
COPY src/ src/
# The wheel is built by the locked hatchling, which is then uninstalled with its own dependencies.
RUN /opt/everindex/bin/python -m hatchling build -t wheel -d dist \
    && python -m pip --python /opt/everindex/bin/python install --no-deps --no-index dist/*.whl \
    && python -m pip --python /opt/everindex/bin/python uninstall --yes \
        hatchling editables pathspec pluggy tomlkit trove-classifiers


FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="everindex" \
      org.opencontainers.image.description="Search on PostgreSQL + pgvector whose vector index is checked and repaired automatically." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="docs/deployment.md"

ENV PATH=/opt/everindex/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    EVERINDEX_HOST=0.0.0.0 \
    PORT=8000 \
    EVERINDEX_HOME=/var/lib/everindex

WORKDIR /app
COPY --from=builder /opt/everindex /opt/everindex
COPY alembic.ini docker-entrypoint.sh run_migration.py ./
COPY alembic/ alembic/
# The only directory that the application may write to; only the embedded server does. Mount a volume here to persist it.
RUN install -d -o 65534 -g 65534 -m 0750 /var/lib/everindex

USER 65534:65534
EXPOSE 8000
STOPSIGNAL SIGTERM
# /livez: the process responds. An unreachable database must not get the container killed; /readyz reports that.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["everindex", "health"]
ENTRYPOINT ["/app/docker-entrypoint.sh"]
CMD ["everindex", "serve"]
