# One image for every role; the command picks which (docker-compose.yml shows them all).
# `docker run -p 2525:2525 -p 8000:8000 -v smtpproxy:/data smtpproxy` runs everything in one container.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
WORKDIR /build
COPY requirements/uv.txt requirements/prod.txt requirements/
RUN python -m venv /venv \
    && pip install --require-hashes -r requirements/uv.txt \
    && uv pip install --python /venv/bin/python --require-hashes -r requirements/prod.txt

FROM python:3.13-slim
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DATA_DIR=/data SMTP_HOSTS=0.0.0.0 WEB_HOST=0.0.0.0
RUN groupadd --gid 10001 smtpproxy \
    && useradd --uid 10001 --gid smtpproxy --no-create-home --home-dir /data --shell /usr/sbin/nologin smtpproxy \
    && install --directory --owner smtpproxy --group smtpproxy --mode 0700 /data
COPY --from=build /venv /venv
WORKDIR /app
COPY manage.py LICENSE ./
COPY accounts accounts
COPY providers providers
COPY delivery delivery
COPY relay relay
COPY smtpproxy smtpproxy
RUN python -m compileall -q . \
    && DATA_DIR=/tmp/build python manage.py collectstatic --no-input --verbosity 0 \
    && rm -r /tmp/build
USER 10001:10001
VOLUME /data
# SMTP with STARTTLS, SMTP with TLS from the start, web.
EXPOSE 2525 4650 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["python", "manage.py", "serve"]
