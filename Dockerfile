# syntax=docker/dockerfile:1
# For the CPU: docker build --tag biomassters .
# For CUDA:    docker build --tag biomassters:cuda --build-arg VARIANT=cuda .
# docs/how_to/containers.md says how to run it.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG VARIANT=cpu
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /build
# The packages first, at the versions that pyproject.toml pins: they change more seldom than the code.
COPY pyproject.toml ./
RUN case "$VARIANT" in \
        cpu) export UV_TORCH_BACKEND=cpu ;; \
        cuda) ;; \
        *) echo "VARIANT is '$VARIANT': give cpu or cuda." >&2; exit 1 ;; \
    esac; \
    uv venv /opt/biomassters; \
    uv pip install --python /opt/biomassters --requirements pyproject.toml
COPY README.md LICENSE ./
COPY conf conf
COPY src src
RUN uv pip install --python /opt/biomassters --no-deps .

FROM python:${PYTHON}-slim
# What GDAL in rasterio's wheel takes from the system.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --no-create-home forester
COPY --from=build /opt/biomassters /opt/biomassters
# Whoever runs it (--user), caches go where anybody may write.
ENV PATH=/opt/biomassters/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /work
RUN chown 1000 /work
USER 1000
ENTRYPOINT ["biomassters"]
CMD ["run"]
