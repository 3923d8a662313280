# Tidemill in a container. Builders without BuildKit make all stages up to the one that is asked for: hence their order.
#
#   docker build -t tidemill .                                            compiles it (about half an hour)
#   docker build -t tidemill --target prebuilt --build-arg BINARY=tidemill .   takes the binary ./tidemill

FROM debian:bookworm-slim AS runtime
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 libstdc++6 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/tidemill --create-home --shell /usr/sbin/nologin tidemill
# State and cursors: a volume, so that they outlive the container.
ENV TIDEMILL_DATA=/var/lib/tidemill \
    TIDEMILL_BRIDGE_STATE=/var/lib/tidemill/bridge \
    TIDEMILL_HTTP=0.0.0.0:8080 \
    TIDEMILL_LOG_FORMAT=json
WORKDIR /var/lib/tidemill
USER tidemill
VOLUME /var/lib/tidemill
EXPOSE 8080
# Alive, not ready: a pipeline that waits for its topics must not be killed for it.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 CMD ["tidemill", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tidemill"]
CMD ["--help"]

FROM runtime AS prebuilt
ARG BINARY=tidemill
COPY ${BINARY} /usr/local/bin/tidemill
COPY config/trending.yaml config/word-count.yaml /etc/tidemill/

FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake clang libclang-dev libcurl4-openssl-dev libssl-dev pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin tidemill && strip target/release/tidemill

FROM runtime AS tidemill
COPY --from=build /src/target/release/tidemill /usr/local/bin/tidemill
COPY config/trending.yaml config/word-count.yaml /etc/tidemill/
