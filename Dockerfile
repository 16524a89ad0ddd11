# The playground as an image, for processors or for NVIDIA's GPUs:
#
#     docker build -t gptj-playground .
#     docker build -t gptj-playground:cuda --build-arg TORCH=cuda .
#
# FLEET=1 adds what several machines need (docs/scale.md).
# docs/containers.md says how to run it.
ARG BASE=python:3.11-slim

FROM ${BASE} AS packages
ARG TORCH=cpu
ARG FLEET=
WORKDIR /build
COPY requirements.txt requirements-fleet.txt ./
# PyPI's torch is the build for CUDA, six times as large as the one for processors. pip compiles the
# packages: at run time nobody may write there.
RUN set -eu; \
    index=; \
    case "$TORCH" in \
        cpu) sed -i 's/^\(torch==[0-9.]*\)$/\1+cpu/' requirements.txt; \
             index="--extra-index-url https://download.pytorch.org/whl/cpu" ;; \
        cuda) ;; \
        *) echo "TORCH must be cpu or cuda" >&2; exit 2 ;; \
    esac; \
    python3 -m venv /opt/venv; \
    /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check $index -r requirements.txt \
        ${FLEET:+-r requirements-fleet.txt}

FROM ${BASE}
ARG TORCH=cpu
ARG FLEET=
# Triton compiles the kernels for the card that it finds, which takes Python's headers too: Debian's
# Python has them in a package of their own, the base's own Python brings them along. KubeRay's probes use wget, and its login
# shells have a PATH of their own
RUN set -eu; \
    if [ "$TORCH" = cuda ]; then \
        apt-get update; \
        headers=; \
        python3 -c 'import os, sys, sysconfig; sys.exit(not os.path.isfile(sysconfig.get_path("include") + "/Python.h"))' \
            || headers=python3-dev; \
        apt-get install -y --no-install-recommends gcc libc6-dev $headers; \
        rm -rf /var/lib/apt/lists/*; \
    fi; \
    if [ -n "$FLEET" ]; then \
        apt-get update; \
        apt-get install -y --no-install-recommends wget; \
        rm -rf /var/lib/apt/lists/*; \
        ln -s /opt/venv/bin/ray /usr/local/bin/ray; \
    fi; \
    useradd --create-home --uid 1000 playground; \
    install -d -o 1000 -g 1000 /cache
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY app.py LICENSE ./
COPY assets assets
COPY gptj_demo gptj_demo

# The only folder that is written: models, compiled code, Gradio's files.
ENV XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    NUMBA_CACHE_DIR=/cache/numba \
    TRITON_CACHE_DIR=/cache/triton \
    GRADIO_TEMP_DIR=/cache/gradio
# `docker stop` kills after 10 seconds: running requests get 7 of them
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GPTJ_DRAIN_SECONDS=7
VOLUME /cache
EXPOSE 7860
USER 1000:1000
# healthy once the page answers; /readyz says when the model does
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:%s/healthz' % os.environ.get('GRADIO_SERVER_PORT', 7860), timeout=4)"]
CMD ["python", "app.py"]
