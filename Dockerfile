# object2vec on a mounted /opt/ml: `docker run IMAGE train`, `serve` or `prepare`. The default is `train`.
#
# Build it with `make image`, or by hand: docker build --build-arg FLAVOR=cpu|cuda [--build-arg LOCK=FILE] -t object2vec .
# Optional build secrets: id=ca_bundle (certificates that pip trusts), id=pip_conf (a pip.conf naming an index). pip also
# finds wheels in wheels/. The CPU flavor needs torch's CPU wheel there or on the index.

# ---- base: shared by all stages -------------------------------------------------------------------------------------------
FROM debian:bookworm-slim AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log

# ---- builder: has a compiler, because sagemaker-training is a source package ---------------------------------------------
FROM base AS builder
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_CONFIG_FILE=/run/secrets/pip_conf PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

COPY container/requirements-build.txt /lock/
RUN --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf \
    export PIP_CERT=$(ls /run/secrets/ca_bundle 2>/dev/null) \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r /lock/requirements-build.txt

# Install the dependencies in a layer that is rebuilt only if the lock file changes. pip first collects all wheels in one
# folder and checks their hashes. It builds the one source package there, with the locked setuptools. Then it installs from
# that folder only. Headers, programs and tests are removed, a sixth of the size. numpy needs its own tests.
# LOCK names another lock file in container/, for example with a torch for an older CUDA; see docs/sagemaker.md.
ARG FLAVOR=cpu
ARG LOCK=requirements-${FLAVOR}.txt
COPY container/${LOCK} /lock/requirements.txt
RUN --mount=type=secret,id=ca_bundle --mount=type=secret,id=pip_conf --mount=type=bind,source=wheels,target=/wheels \
    export PIP_CERT=$(ls /run/secrets/ca_bundle 2>/dev/null) \
 && /opt/build/bin/pip wheel --no-deps --no-build-isolation --require-hashes \
      --find-links /wheels --wheel-dir /wheelhouse -r /lock/requirements.txt \
 && python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-index --no-deps /wheelhouse/*.whl \
 && /opt/venv/bin/pip check \
 && cd /opt/venv/lib/python3.11/site-packages \
 && rm -rf torch/include torch/test pyarrow/include pyarrow/tests \
 && find torch/bin -mindepth 1 ! -name torch_shm_manager -delete \
 && find gevent networkx scipy sympy -depth -type d -name tests -exec rm -r {} + \
 && rm -r /wheelhouse

# ---- package: the wheel of object2vec, with compiled kernels --------------------------------------------------------------
FROM builder AS package
WORKDIR /source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src src
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

# ---- the image -----------------------------------------------------------------------------------------------------------
FROM base
# The image has no files in /opt/ml, because the platform mounts over it. /opt/program is first on PATH, because
# sagemaker-training installs its own `train`. Ours checks the platform's files and then calls it.
ENV PATH=/opt/program:/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8 \
    SAGEMAKER_TRAINING_MODULE=object2vec.sagemaker.training:main \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=builder /opt/venv /opt/venv
COPY container/train container/serve container/prepare /opt/program/
RUN --mount=type=bind,from=package,source=/dist,target=/dist \
    pip install --no-cache-dir --no-index --no-deps --root-user-action ignore /dist/*.whl

# No USER: only root can read the platform's configuration folder, hosting expects root, and local mode's mounts belong to
# root. No ENTRYPOINT and no init: the platform passes one word, `train` or `serve`, and has its own init.
EXPOSE 8080
CMD ["train"]

ARG VERSION=0
ARG REVISION=unknown
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      com.amazonaws.sagemaker.capabilities.multi-models=true \
      org.opencontainers.image.title=object2vec \
      org.opencontainers.image.description="An open, drop-in implementation of Amazon SageMaker's built-in Object2Vec" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.base.name=debian:bookworm-slim \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION}
