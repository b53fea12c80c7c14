# Two images without a shell, one program each:
#
#   docker build --target stream -t event-piper/stream .
#   docker build --target poll   -t event-piper/poll .
#
# For several platforms at once, without emulation: docker buildx build --platform linux/amd64,linux/arm64 …

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -o /out/ \
    -ldflags "-s -w -X github.com/event-piper/event-piper/cmd/internal/service.Version=$VERSION" \
    ./cmd/stream ./cmd/poll

# Certificate authorities for databases and JWK sets, time zones, and a user that is not root; nothing else.
FROM gcr.io/distroless/static-debian12:nonroot AS base
ARG VERSION=dev
LABEL org.opencontainers.image.title="Event Piper" \
      org.opencontainers.image.source="https://github.com/event-piper/event-piper" \
      org.opencontainers.image.version="$VERSION"
USER 65532:65532
STOPSIGNAL SIGTERM

FROM base AS poll
COPY --from=build /out/poll /poll
EXPOSE 4001
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/poll", "health"]
ENTRYPOINT ["/poll"]

# The last one is what a build without --target makes.
FROM base AS stream
COPY --from=build /out/stream /stream
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/stream", "health"]
ENTRYPOINT ["/stream"]
