# raincheck with the chain example as its app. Replace it with your own, or mount your own at /app.
# --build-arg EXAMPLE=groups chooses another example, and PACKAGES what it needs.
FROM python:3.13-slim AS build
RUN python -m venv /opt/raincheck
ENV PATH=/opt/raincheck/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements/run.txt requirements/
RUN pip install --require-hashes --requirement requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-deps .
ARG PACKAGES=""
RUN [ -z "$PACKAGES" ] || pip install $PACKAGES

FROM python:3.13-slim
COPY --from=build /opt/raincheck /opt/raincheck
ENV PATH=/opt/raincheck/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
ARG EXAMPLE=chain
COPY examples/$EXAMPLE ./
# Mount point for a volume with the keys and users of a sign-in.
RUN install --directory --owner=10001 --group=10001 --mode=700 /keys
# A number, so that Kubernetes can verify that it is not root.
USER 10001:10001
# The first SIGTERM lets requests and attempts finish; a second one stops the process immediately.
STOPSIGNAL SIGTERM
EXPOSE 8000
ENTRYPOINT ["raincheck"]
CMD ["--help"]
