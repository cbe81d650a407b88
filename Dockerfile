FROM python:3.13-slim AS build
RUN pip install --no-cache-dir uv
WORKDIR /app
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-default-groups --group project

FROM python:3.13-slim
RUN useradd --system --uid 10001 headrace
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY . .
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 HEADRACE_VAR_DIR=/tmp/headrace
# The user of the image can't write here: without it each process compiles our code anew.
RUN python -m compileall -q config devtools dlq throttling workflows
USER headrace
