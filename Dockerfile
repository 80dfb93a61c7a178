# syntax=docker/dockerfile:1.7
# S3POT with Ray and MLflow, for all of it: jobs, clusters (deploy/) and `s3pot serve`, which is what it starts with.
#
#   docker build -t s3pot .                                  PyTorch for CPUs
#   docker build -t s3pot:cuda --build-arg DEVICE=cuda .     PyTorch for NVIDIA GPUs; the wheels bring CUDA along
#   docker run --rm -p 127.0.0.1:8000:8000 --shm-size=2g s3pot
#   docker run --rm --shm-size=2g -v "$PWD:/data" -w /data s3pot predict input=photos out=masks
ARG PYTHON=3.11.14

FROM python:${PYTHON}-slim-bookworm AS build
ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# PyTorch first, and alone: gigabytes that stay in the cache while the code changes. Its own index has the builds without
# CUDA; the constraints hold for both.
COPY deploy/constraints.txt ./
RUN case "$DEVICE" in \
      cpu) index="https://download.pytorch.org/whl/cpu" ;; \
      cuda) index="https://pypi.org/simple" ;; \
      *) echo "DEVICE must be cpu or cuda, got $DEVICE" >&2; exit 2 ;; \
    esac \
    && pip install --constraint=constraints.txt --index-url="$index" torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY analysis analysis
COPY ray_jobs ray_jobs
COPY s3pot s3pot
RUN pip install --constraint=constraints.txt '.[serve]'

FROM python:${PYTHON}-slim-bookworm
# KubeRay's probes call wget; `ray stop` and the dashboard look at processes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends procps wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home s3pot
# Not a virtual environment: KubeRay may start Ray from a login shell, which sets PATH anew and would not find it.
COPY --from=build /usr/local /usr/local
COPY experiments /app/experiments
COPY LICENSE s3pot/weights/WEIGHTS_LICENSE /app/
ENV PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE RAY_USAGE_STATS_ENABLED=0 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
WORKDIR /home/s3pot
EXPOSE 8000
# Of `serve`; Kubernetes has probes of its own and does not look at it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["wget", "--quiet", "--tries=1", "--timeout=4", "--output-document=/dev/null", "http://127.0.0.1:8000/readyz"]
ENTRYPOINT ["s3pot"]
CMD ["serve", "host=0.0.0.0"]
