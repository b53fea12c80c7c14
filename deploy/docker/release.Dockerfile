# The images of a release, from programs that goreleaser has built: it lays each at PLATFORM/NAME. Dockerfile builds the
# same from source.
FROM gcr.io/distroless/static-debian12:nonroot
ARG TARGETPLATFORM
ARG PROGRAM
COPY $TARGETPLATFORM/$PROGRAM /event-piper
USER 65532:65532
STOPSIGNAL SIGTERM
EXPOSE 4000 4001
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/event-piper", "health"]
ENTRYPOINT ["/event-piper"]
